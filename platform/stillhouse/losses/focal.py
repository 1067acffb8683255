"""Focal loss: cross-entropy that looks away from queries already solved."""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.errors import RecipeError
from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.softmax import label_distribution, log_probabilities


def focal(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, *, gamma: float = 2.0) -> PerQuery:
    """-(1 - p)^gamma log p of a positive, p = softmax(s); several positives: the mean over them."""
    if not gamma >= 0:
        raise RecipeError(f"gamma is {gamma}, but it must be 0 or more")
    log_p_QK = log_probabilities(student_QK, mask_QK)
    # (1 - p)^gamma by way of log(1 - p): the power's own gradient is inf at p = 1 for gamma < 1.
    below_zero_QK = log_p_QK.clamp(max=-torch.finfo(log_p_QK.dtype).tiny)
    log_rest_QK = torch.log(-torch.expm1(below_zero_QK))
    focal_QK = -(gamma * log_rest_QK).exp() * log_p_QK
    value_Q = (label_distribution(label_QK, mask_QK) * focal_QK).sum(-1)
    return speak(value_Q, (label_QK > 0).any(-1) & (mask_QK.sum(-1) > 1))


LOSS = Loss(
    function=focal,
    description="cross-entropy weighted by (1 - p)^gamma, so that solved queries count less",
    paper="Lin et al. 2017; Menon et al. 2022, App. C.10",
    needs_labels=True,
    needs_teacher=False,
    needs_magnitudes=False,
)
