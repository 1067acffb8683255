"""M3SE: margins to the teacher's hardest negative, which every other negative must stay below."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.hinge import hinge
from stillhouse.losses.masking import positives_negatives, speak


def m3se(
    student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, *, hinge_power: Literal[1, 2] = 1
) -> PerQuery:
    """sum_{i in P} ((t_i - t_j*) - (s_i - s_j*))^2 + sum_{j in N} [s_j - s_j*]_+^hinge_power.

    j* is the negative that the teacher ranks highest; of several tied there, the one the student ranks highest.
    s_j* carries gradient in both terms.
    """
    positive_QK, negative_QK = positives_negatives(label_QK, mask_QK)
    has_negative_Q1 = negative_QK.any(-1, keepdim=True)
    lowest = torch.finfo(student_QK.dtype).min
    top_Q1 = torch.where(negative_QK, teacher_QK, lowest).amax(-1, keepdim=True)
    tied_QK = negative_QK & (teacher_QK == top_Q1)
    student_top_Q1 = torch.where(tied_QK, student_QK, lowest).max(-1, keepdim=True).values
    # Without a negative both tops are `lowest`, whose square would overflow into the gradient.
    top_Q1 = torch.where(has_negative_Q1, top_Q1, 0.0)
    student_top_Q1 = torch.where(has_negative_Q1, student_top_Q1, 0.0)

    over_top_QK = student_QK - student_top_Q1
    margin_QK = torch.where(positive_QK, (teacher_QK - top_Q1 - over_top_QK).square(), 0.0)
    order_QK = torch.where(negative_QK, hinge(over_top_QK, hinge_power), 0.0)
    return speak((margin_QK + order_QK).sum(-1), has_negative_Q1[:, 0] & (mask_QK.sum(-1) > 1))


LOSS = Loss(
    function=m3se,
    description="margin-MSE to the teacher's top negative, plus a hinge that keeps the other negatives below it",
    paper="Menon et al. 2022, Eq. 4",
    needs_labels=True,
    needs_teacher=True,
    needs_magnitudes=True,
)
