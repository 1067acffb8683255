"""RankDistil-B: the teacher's score on positives, a ceiling on negatives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.hinge import hinge
from stillhouse.losses.masking import positives_negatives, speak


def rankdistil_b(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    gamma0: float = 0.0,
    hinge_power: Literal[1, 2] = 2,
) -> PerQuery:
    """sum_{i in P} (t_i - s_i)^2 + sum_{j in N} [s_j - gamma0]_+^hinge_power."""
    positive_QK, negative_QK = positives_negatives(label_QK, mask_QK)
    match_QK = torch.where(positive_QK, (teacher_QK - student_QK).square(), 0.0)
    ceiling_QK = torch.where(negative_QK, hinge(student_QK - gamma0, hinge_power), 0.0)
    return speak((match_QK + ceiling_QK).sum(-1), mask_QK.any(-1))


LOSS = Loss(
    function=rankdistil_b,
    description="teacher's score on positives, scores of negatives pushed below gamma0",
    paper="Reddi et al. 2021; Menon et al. 2022, Sec. 4.3",
    needs_labels=True,
    needs_teacher=True,
    needs_magnitudes=True,
)
