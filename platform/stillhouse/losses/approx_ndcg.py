"""ApproxNDCG: nDCG with smooth ranks."""

from __future__ import annotations

from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.ranking import approximate_ranks, discounts, ideal_dcg


def approx_ndcg(
    student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, *, temperature: float = 1.0
) -> PerQuery:
    """1 - (sum_k y_k / log2(1 + r_k)) / ideal DCG, r the smooth rank; the gain is the grade (negative ones: 0)."""
    gain_QK = label_QK.clamp(min=0)
    rank_QK = approximate_ranks(student_QK, mask_QK, temperature)
    value_Q = 1 - (gain_QK * discounts(rank_QK)).sum(-1) / ideal_dcg(gain_QK)
    return speak(value_Q, (label_QK > 0).any(-1) & (mask_QK.sum(-1) > 1))


LOSS = Loss(
    function=approx_ndcg,
    description="1 - nDCG of smooth ranks, linear gains from the grades",
    paper="Qin et al. 2010",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
