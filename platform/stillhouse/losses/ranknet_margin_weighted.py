"""RankNet on the labels, each pair weighted by the teacher's margin."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import differences, mean_over_pairs, positive_negative_pairs, speak


def ranknet_margin_weighted(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """softplus(-(s_i - s_j)) |t_i - t_j|, mean over the pairs of a positive i and a negative j.

    The weight is absolute as printed; a signed one would reward the student for inverting a pair.
    """
    pair_QKK = positive_negative_pairs(label_QK, mask_QK)
    value_QKK = softplus(-differences(student_QK)) * differences(teacher_QK).abs()
    return speak(mean_over_pairs(value_QKK, pair_QKK), pair_QKK.any(-1).any(-1))


LOSS = Loss(
    function=ranknet_margin_weighted,
    description="RankNet on the labels, weighted by the teacher's absolute margin",
    paper="Hofstaetter et al. 2020, Eq. 14 (Weighted RankNet)",
    needs_labels=True,
    needs_teacher=True,
    needs_magnitudes=True,
)
