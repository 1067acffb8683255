"""ListMLE: the likelihood of the teacher's ranking under the student's Plackett-Luce model."""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.ranking import order


def listmle(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> PerQuery:
    """-sum_k log( exp(s_k) / sum_{j at or below k} exp(s_j) ) along the teacher's ranking.

    Of documents tied at the teacher the one with the highest student score stands first.
    """
    best_first_QK = order(teacher_QK, student_QK, mask_QK)
    real_QK = mask_QK.gather(-1, best_first_QK)
    lowest = torch.finfo(student_QK.dtype).min
    scores_QK = torch.where(real_QK, student_QK.gather(-1, best_first_QK), lowest)
    # Shifted by the constant highest score, which changes nothing but keeps float32 exact near the top.
    highest_Q1 = scores_QK.detach().amax(-1, keepdim=True)
    scores_QK = torch.where(real_QK, scores_QK - highest_Q1, lowest)
    log_tail_QK = scores_QK.flip(-1).logcumsumexp(-1).flip(-1)
    value_Q = torch.where(real_QK, log_tail_QK - scores_QK, 0.0).sum(-1)
    return speak(value_Q, mask_QK.sum(-1) > 1)


LOSS = Loss(
    function=listmle,
    description="Plackett-Luce likelihood of the teacher's ranking; reads the order only",
    paper="Xia et al. 2008",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=False,
)
