"""Squared error against the teacher's scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stillhouse.errors import RecipeError
from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak


def pointwise_mse(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    reduction: Literal["sum", "mean"] = "sum",
) -> PerQuery:
    """(t_k - s_k)^2, sum or mean over the scored documents of a query."""
    if reduction not in ("sum", "mean"):
        raise RecipeError(f"reduction is {reduction!r}, but only 'sum' and 'mean' are known")
    value_Q = torch.where(mask_QK, (teacher_QK - student_QK).square(), 0.0).sum(-1)
    if reduction == "mean":
        value_Q = value_Q / mask_QK.sum(-1).clamp(min=1)
    return speak(value_Q, mask_QK.any(-1))


LOSS = Loss(
    function=pointwise_mse,
    description="squared error between student and teacher score; needs one common scale",
    paper="Menon et al. 2022, Sec. 4.1; Hofstaetter et al. 2020, Eq. 13",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=True,
)
