"""RankNet on the labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, mean_over_pairs, positive_negative_pairs, speak


def ranknet(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """softplus(-(s_i - s_j)), mean over the pairs of a positive i and a negative j."""
    pair_QKK = positive_negative_pairs(label_QK, mask_QK)
    value_Q = mean_over_pairs(softplus(-differences(student_QK)), pair_QKK)
    return speak(value_Q, pair_QKK.any(-1).any(-1))


LOSS = Loss(
    function=ranknet,
    description="logistic loss on the score margin of each positive over each negative",
    paper="Burges et al. 2005; Hofstaetter et al. 2020, Sec. 4",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
