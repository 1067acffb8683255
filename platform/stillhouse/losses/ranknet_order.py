"""RankNet on the teacher's order."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, preferred_pairs, speak_per_pair


def ranknet_order(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """softplus(-(s_i - s_j)), mean over the pairs that the teacher puts i above j; ties make no pair.

    A query's weight is its number of pairs, so that the weighted mean is the mean over all pairs of the batch.
    """
    return speak_per_pair(softplus(-differences(student_QK)), preferred_pairs(teacher_QK, mask_QK))


LOSS = Loss(
    function=ranknet_order,
    description="logistic loss on every pair that the teacher orders; reads the order only",
    paper="Pezzuti et al. 2025, D; Burges et al. 2005",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=False,
)
