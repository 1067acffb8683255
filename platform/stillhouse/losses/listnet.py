"""ListNet: cross-entropy against the softmax of the grades."""

from __future__ import annotations

from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.softmax import log_probabilities, probabilities


def listnet(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """-sum_k softmax(y)_k log softmax(s)_k with the grades y."""
    value_Q = -(probabilities(label_QK, mask_QK) * log_probabilities(student_QK, mask_QK)).sum(-1)
    return speak(value_Q, (label_QK > 0).any(-1) & (mask_QK.sum(-1) > 1))


LOSS = Loss(
    function=listnet,
    description="cross-entropy between the softmax of the grades and the student's softmax",
    paper="Cao et al. 2007 (top one)",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
