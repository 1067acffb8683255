"""Softmax cross-entropy on the labels: InfoNCE, localised contrastive estimation (LCE)."""

from __future__ import annotations

from torch import Tensor

from stillhouse.errors import RecipeError
from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.softmax import label_distribution, log_probabilities


def contrastive(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> PerQuery:
    """-sum_k target_k log softmax(s / temperature)_k with target = (1 - a) y / sum(y) + a / K.

    y is 1 for a grade above 0, a is `label_smoothing`, K the number of real documents.
    """
    if not 0 <= label_smoothing < 1:
        raise RecipeError(f"label_smoothing is {label_smoothing}, but it is a share: give 0 up to below 1")
    real_Q1 = mask_QK.sum(-1, keepdim=True)
    hard_QK = label_distribution(label_QK, mask_QK)
    # Divided in the dtype of the scores: a number over an integer tensor is float32, also beside float64.
    even_Q1 = label_smoothing / real_Q1.clamp(min=1).to(hard_QK.dtype)
    target_QK = (1 - label_smoothing) * hard_QK + even_Q1
    value_Q = -(target_QK * log_probabilities(student_QK, mask_QK, temperature)).sum(-1)
    return speak(value_Q, (label_QK > 0).any(-1) & (real_Q1[:, 0] > 1))


LOSS = Loss(
    function=contrastive,
    description="softmax cross-entropy against the labelled positives (InfoNCE, LCE)",
    paper="Menon et al. 2022, Eq. 1 and App. C.9; Xu et al. 2025, L_InfoNCE; Pezzuti et al. 2025, C",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
