"""Ranks by score: exact ones, and the smooth ones that carry a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from stillhouse.losses.masking import differences
from stillhouse.losses.softmax import check_temperature


def order(scores_QK: Tensor, tied_by_QK: Tensor, mask_QK: Tensor) -> Tensor:
    """Slots from best to worst, padding last; tied scores follow `tied_by`, highest first. A constant."""
    by_tie_QK = tied_by_QK.detach().argsort(dim=-1, descending=True, stable=True)
    real_QK = torch.where(mask_QK, scores_QK.detach(), -torch.inf)
    by_score_QK = real_QK.gather(-1, by_tie_QK).argsort(dim=-1, descending=True, stable=True)
    return by_tie_QK.gather(-1, by_score_QK)


def ranks(scores_QK: Tensor, tied_by_QK: Tensor, mask_QK: Tensor) -> Tensor:
    """Rank of each slot from 1, in the dtype of the scores; ties and padding as in `order`."""
    position_QK = torch.arange(1, scores_QK.shape[1] + 1, device=scores_QK.device).expand_as(scores_QK)
    best_first_QK = order(scores_QK, tied_by_QK, mask_QK)
    return torch.empty_like(scores_QK).scatter_(-1, best_first_QK, position_QK.to(scores_QK.dtype))


def approximate_ranks(scores_QK: Tensor, mask_QK: Tensor, temperature: float) -> Tensor:
    """1 + sum over the other documents j of sigmoid((s_j - s_i) / temperature) (Qin et al. 2010, Eq. 11)."""
    check_temperature(temperature)
    above_QKK = torch.sigmoid(-differences(scores_QK) / temperature)
    itself_KK = torch.eye(scores_QK.shape[1], dtype=torch.bool, device=scores_QK.device)
    return 1 + torch.where(mask_QK[:, None, :] & ~itself_KK, above_QKK, 0.0).sum(-1)


def discounts(ranks_QK: Tensor) -> Tensor:
    """1 / log2(1 + rank), as in DCG."""
    return 1 / torch.log2(1 + ranks_QK)


def ideal_dcg(gain_QK: Tensor) -> Tensor:
    """[Q]: DCG of the documents in the order of their gains; 1 where all gains are 0, so that it can divide."""
    position_K = torch.arange(1, gain_QK.shape[1] + 1, device=gain_QK.device, dtype=gain_QK.dtype)
    ideal_Q = (gain_QK.sort(-1, descending=True).values * discounts(position_K)).sum(-1)
    return torch.where(ideal_Q > 0, ideal_Q, 1.0)
