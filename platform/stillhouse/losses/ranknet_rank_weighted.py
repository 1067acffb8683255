"""RankNet on the teacher's order, pairs near the top of the student's ranking first."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, preferred_pairs, speak_per_pair
from stillhouse.losses.ranking import ranks


def ranknet_rank_weighted(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """softplus(-(s_i - s_j)) / (r_i + r_j), mean over the pairs that the teacher puts i above j.

    r is the student's rank from 1, a constant; of tied documents the one the teacher ranks lower stands first.
    Weight of a query as in `ranknet_order`.
    """
    rank_QK = ranks(student_QK, -teacher_QK, mask_QK)
    weight_QKK = 1 / (rank_QK[:, :, None] + rank_QK[:, None, :])
    return speak_per_pair(softplus(-differences(student_QK)) * weight_QKK, preferred_pairs(teacher_QK, mask_QK))


LOSS = Loss(
    function=ranknet_rank_weighted,
    description="RankNet on the teacher's order, weighted by the inverse sum of the student's ranks",
    paper="Gangi Reddy et al. 2024 (FIRST)",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=False,
)
