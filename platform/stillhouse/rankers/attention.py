"""Attention on a CPU by plain matrix products over all heads at once, softmax in place.

For heads of 32 or 64 and a few hundred tokens this is about twice as fast in bfloat16 as the flash kernel and as the
library's eager one, which writes scaled, masked and float32 copies of the weights (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stillhouse.rankers.dropout import factors


@dataclass(frozen=True)
class HiddenKeys:
    """The keys that no query may read: `padded_PC` over the columns from `start` on, the ones before are all read."""

    start: int
    padded_PC: Tensor


def hidden_keys(mask_PL: Tensor) -> HiddenKeys | None:
    """None where nothing is padded. Rows of a batch are of about one length: few columns are left to touch."""
    padded_PL = mask_PL == 0
    columns = torch.nonzero(padded_PL.any(0))
    if not len(columns):
        return None
    start = int(columns[0])
    return HiddenKeys(start, padded_PL[:, start:])


def split_heads(states_PLD: Tensor, heads: int) -> Tensor:
    """[P, L, D] as [P * H, L, D / H]."""
    num, length, width = states_PLD.shape
    return states_PLD.view(num, length, heads, width // heads).transpose(1, 2).reshape(num * heads, length, -1)


def join_heads(context: Tensor, num: int) -> Tensor:
    """[P * H, L, D / H] as [P, L, D]."""
    _, length, size = context.shape
    return context.view(num, -1, length, size).transpose(1, 2).reshape(num, length, -1)


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: HiddenKeys | None, dropout: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, [P * H, M, d], of query [P * H, M, d], key and value [P * H, L, d]."""
    scaled = query * query.shape[-1] ** -0.5
    if torch.is_grad_enabled():
        context: Tensor = _Attention.apply(scaled, key, value, hidden, dropout)  # type: ignore[no-untyped-call]
        return context
    weights = _weights(scaled, key, hidden)
    # A training encodes without a graph too, where it caches gradients, with the dropout of the pass that has one.
    return torch.bmm(weights * factors(weights, dropout) if dropout > 0 else weights, value)


def _weights(scaled: Tensor, key: Tensor, hidden: HiddenKeys | None) -> Tensor:
    """Attention weights [P * H, M, L], of the inputs' dtype; the softmax itself counts in float32."""
    scores = torch.bmm(scaled, key.transpose(1, 2))
    if hidden is not None:
        num = len(hidden.padded_PC)
        by_row = scores.view(num, -1, scores.shape[1], scores.shape[2])[..., hidden.start :]
        by_row.masked_fill_(hidden.padded_PC[:, None, None], torch.finfo(scores.dtype).min)
    return torch.softmax(scores, -1, out=scores)


class _Attention(torch.autograd.Function):
    """Keeps the weights alone for the way back: no scaled, masked or float32 copy of them."""

    @staticmethod
    def forward(
        ctx: Any, scaled: Tensor, key: Tensor, value: Tensor, hidden: HiddenKeys | None, dropout: float
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            weights = _weights(scaled, key, hidden)
            kept = None
            if dropout > 0:
                kept = factors(weights, dropout)
            ctx.save_for_backward(scaled, key, value, weights, kept)
            return torch.bmm(weights if kept is None else weights * kept, value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        scaled, key, value, weights, kept = ctx.saved_tensors
        read = weights if kept is None else weights * kept
        to_value = torch.bmm(read.transpose(1, 2), given)
        to_weights = torch.bmm(given, value.transpose(1, 2))
        if kept is not None:
            to_weights *= kept
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        return torch.bmm(to_scores, key), torch.bmm(to_scores.transpose(1, 2), scaled), to_value, None, None
