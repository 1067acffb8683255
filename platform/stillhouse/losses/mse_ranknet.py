"""Squared error against the teacher, plus RankNet on the labels."""

from __future__ import annotations

from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.pointwise_mse import pointwise_mse
from stillhouse.losses.ranknet import ranknet


def mse_ranknet(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """Mean over the documents of (t_k - s_k)^2, plus `ranknet`.

    With K = 2 that is half of Hofstaetter et al. 2020, Eq. 13, plus RankNet, as their code has it.
    """
    error_Q, weight_Q = pointwise_mse(student_QK, teacher_QK, label_QK, mask_QK, reduction="mean")
    order_Q, _ = ranknet(student_QK, teacher_QK, label_QK, mask_QK)
    return error_Q + order_Q, weight_Q


LOSS = Loss(
    function=mse_ranknet,
    description="half the pointwise MSE of a triple (mean over the documents) plus RankNet on the labels",
    paper="Hofstaetter et al. 2020, published code",
    needs_labels=True,
    needs_teacher=True,
    needs_magnitudes=True,
)
