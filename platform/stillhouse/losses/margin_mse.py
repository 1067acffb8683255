"""Margin-MSE: squared error between the student's and the teacher's margins."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stillhouse.errors import RecipeError
from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, mean_over_pairs, positive_negative_pairs, speak


def margin_mse(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    pair_reduction: Literal["mean", "sum"] = "mean",
) -> PerQuery:
    """((s_i - s_j) - (t_i - t_j))^2, signed, mean or sum over the pairs of a positive i and a negative j."""
    if pair_reduction not in ("mean", "sum"):
        raise RecipeError(f"pair_reduction is {pair_reduction!r}, but only 'mean' and 'sum' are known")
    pair_QKK = positive_negative_pairs(label_QK, mask_QK)
    error_QKK = (differences(student_QK) - differences(teacher_QK)).square()
    if pair_reduction == "mean":
        value_Q = mean_over_pairs(error_QKK, pair_QKK)
    else:
        value_Q = torch.where(pair_QKK, error_QKK, 0.0).sum((1, 2))
    return speak(value_Q, pair_QKK.any(-1).any(-1))


LOSS = Loss(
    function=margin_mse,
    description="squared error between the margins of student and teacher, positive over negative",
    paper="Hofstaetter et al. 2020, Eq. 11-12; Menon et al. 2022, Eq. 3 and Sec. 4.1",
    needs_labels=True,
    needs_teacher=True,
    needs_magnitudes=True,
)
