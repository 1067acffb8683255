"""Padding, missing teacher scores and queries with nothing to say, handled once for every loss."""

from __future__ import annotations

import torch
from torch import Tensor


def clean(
    student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, *, scored: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student, teacher, label and mask, with zeros wherever the returned mask is False.

    Zeros go in before any arithmetic: an inf or NaN that is masked afterwards still gives a NaN gradient.
    float32 at least, float64 stays. `scored` also drops the slots whose teacher score is NaN.
    """
    dtype = torch.promote_types(student_QK.dtype, torch.float32)
    has_teacher_QK = ~teacher_QK.isnan()
    if scored:
        mask_QK = mask_QK & has_teacher_QK
    return (
        torch.where(mask_QK, student_QK.to(dtype), 0.0),
        torch.where(mask_QK & has_teacher_QK, teacher_QK.detach().to(dtype), 0.0),
        torch.where(mask_QK, label_QK.to(dtype), 0.0),
        mask_QK,
    )


def speak(value_Q: Tensor, says_Q: Tensor) -> tuple[Tensor, Tensor]:
    """Value and weight: weight 1 where a query says something, else value 0 and weight 0."""
    return torch.where(says_Q, value_Q, 0.0), says_Q.to(value_Q.dtype)


def speak_per_pair(value_QKK: Tensor, pair_QKK: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over each query's pairs, weighted by their number: the weighted mean is that over all pairs of the batch."""
    weight_Q = pair_QKK.sum((1, 2)).to(value_QKK.dtype)
    return mean_over_pairs(value_QKK, pair_QKK), weight_Q


def mean_over_pairs(value_QKK: Tensor, pair_QKK: Tensor) -> Tensor:
    """[Q], 0 where a query has no pair."""
    total_Q = torch.where(pair_QKK, value_QKK, 0.0).sum((1, 2))
    return total_Q / pair_QKK.sum((1, 2)).clamp(min=1)


def differences(scores_QK: Tensor) -> Tensor:
    """scores_i - scores_j at [q, i, j]."""
    return scores_QK[:, :, None] - scores_QK[:, None, :]


def positives_negatives(label_QK: Tensor, mask_QK: Tensor) -> tuple[Tensor, Tensor]:
    """Two bool [Q, K]: grade above 0, and the other real documents."""
    return mask_QK & (label_QK > 0), mask_QK & (label_QK <= 0)


def positive_negative_pairs(label_QK: Tensor, mask_QK: Tensor) -> Tensor:
    """Bool [Q, K, K], True at [q, i, j] where i is a positive and j a negative."""
    positive_QK, negative_QK = positives_negatives(label_QK, mask_QK)
    return positive_QK[:, :, None] & negative_QK[:, None, :]


def preferred_pairs(target_QK: Tensor, mask_QK: Tensor) -> Tensor:
    """Bool [Q, K, K], True at [q, i, j] where the target puts i strictly above j: ties make no pair."""
    return (target_QK[:, :, None] > target_QK[:, None, :]) & mask_QK[:, :, None] & mask_QK[:, None, :]
