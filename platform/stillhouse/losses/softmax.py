"""Distributions over the documents of a query, for the softmax losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillhouse.errors import RecipeError


def check_temperature(temperature: float) -> None:
    """Raise RecipeError unless scores can be divided by it."""
    if not 0 < temperature < math.inf:
        raise RecipeError(f"temperature is {temperature}, but scores are divided by it: give a finite number above 0")


def log_probabilities(scores_QK: Tensor, mask_QK: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(scores / temperature) over the real documents; 0 at the others."""
    check_temperature(temperature)
    # The lowest finite number, not -inf: a query without real documents would become NaN, also in its gradient.
    lowest = torch.finfo(scores_QK.dtype).min
    log_p_QK = torch.where(mask_QK, scores_QK / temperature, lowest).log_softmax(-1)
    return torch.where(mask_QK, log_p_QK, 0.0)


def probabilities(scores_QK: Tensor, mask_QK: Tensor, temperature: float = 1.0) -> Tensor:
    """softmax(scores / temperature) over the real documents; 0 at the others."""
    return torch.where(mask_QK, log_probabilities(scores_QK, mask_QK, temperature).exp(), 0.0)


def label_distribution(label_QK: Tensor, mask_QK: Tensor) -> Tensor:
    """y / sum(y) with y = 1 for a grade above 0; all 0 without a positive."""
    y_QK = (mask_QK & (label_QK > 0)).to(label_QK.dtype)
    return y_QK / y_QK.sum(-1, keepdim=True).clamp(min=1)
