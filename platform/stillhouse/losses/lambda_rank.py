"""LambdaRank: RankNet on the grades, each pair weighted by what its swap does to nDCG."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, preferred_pairs, speak
from stillhouse.losses.ranking import discounts, ideal_dcg, ranks


def lambda_rank(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """sum over y_i > y_j of |y_i - y_j| |1 / log2(1 + r_i) - 1 / log2(1 + r_j)| / ideal DCG * softplus(-(s_i - s_j)).

    y is the grade (negative ones: 0), r the student's rank from 1, a constant; of tied documents the one with the
    lower grade stands first, so that a student that ties all still learns.
    """
    gain_QK = label_QK.clamp(min=0)
    pair_QKK = preferred_pairs(gain_QK, mask_QK)
    discount_QK = discounts(ranks(student_QK, -gain_QK, mask_QK))
    delta_QKK = (differences(gain_QK) * differences(discount_QK)).abs() / ideal_dcg(gain_QK)[:, None, None]
    value_Q = torch.where(pair_QKK, delta_QKK * softplus(-differences(student_QK)), 0.0).sum((1, 2))
    return speak(value_Q, pair_QKK.any(-1).any(-1))


LOSS = Loss(
    function=lambda_rank,
    description="RankNet on the grades, pairs weighted by the change of nDCG when swapped",
    paper="Burges et al. 2006; Wang et al. 2018 (LambdaLoss)",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
