"""Squared error against the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak


def label_mse(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """sum_k (y_k - s_k)^2 with y = 1 for a grade above 0, else 0."""
    y_QK = (label_QK > 0).to(student_QK.dtype)
    value_Q = torch.where(mask_QK, (y_QK - student_QK).square(), 0.0).sum(-1)
    return speak(value_Q, mask_QK.any(-1))


LOSS = Loss(
    function=label_mse,
    description="squared error between score and binary label, summed over the documents",
    paper="Menon et al. 2022, Sec. 2",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
