"""ADR-MSE: squared error between smooth student ranks and teacher ranks, the top counting most."""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.ranking import approximate_ranks, discounts, ranks


def adr_mse(
    student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, *, temperature: float = 1.0
) -> PerQuery:
    """Mean over the documents of (r_k - smooth rank of s_k)^2 / log2(1 + r_k), r the teacher's rank from 1.

    Of documents tied at the teacher the one with the highest student score stands first.
    """
    rank_QK = ranks(teacher_QK, student_QK, mask_QK)
    error_QK = (rank_QK - approximate_ranks(student_QK, mask_QK, temperature)).square() * discounts(rank_QK)
    real_Q = mask_QK.sum(-1)
    value_Q = torch.where(mask_QK, error_QK, 0.0).sum(-1) / real_Q.clamp(min=1)
    return speak(value_Q, real_Q > 1)


LOSS = Loss(
    function=adr_mse,
    description="discounted squared error between smooth student ranks and teacher ranks; reads the order only",
    paper="Schlatt et al. 2025 (Rank-DistiLLM)",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=False,
)
