"""Layers that start fresh on a backbone: always float32, drawn from their own seed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Float32Linear(nn.Linear):
    """A linear layer whose product and output are float32 under any autocast: bfloat16 scores would tie at 8 bits."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return nn.functional.linear(input.float(), self.weight.float(), bias)


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm in float32 under any autocast."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return nn.functional.layer_norm(
                input.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
            )


class Float32Scale(nn.Module):
    """A positive factor, fixed or learnt through its logarithm (so that it stays positive)."""

    def __init__(self, value: float, *, learn: bool) -> None:
        super().__init__()
        self.fixed = value
        # One element instead of a scalar: FSDP2 shards no zero-dimensional parameter.
        self.log_scale = nn.Parameter(torch.tensor([math.log(value)])) if learn else None

    def forward(self, scores: Tensor) -> Tensor:
        return scores * (self.fixed if self.log_scale is None else self.log_scale.exp())

    def value(self) -> float:
        return self.fixed if self.log_scale is None else float(self.log_scale.detach().exp())


def init_fresh(parameters: Iterable[tuple[str, nn.Parameter]], seed: int, std: float) -> None:
    """Draw matrices from N(0, std^2), set biases to 0 and other vectors to 1; the global generator is not touched."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(parameters):
            if parameter.ndim >= 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def mean_pool(hidden_PLD: Tensor, mask_PL: Tensor) -> Tensor:
    """Mean over real tokens, float32 [P, D]."""
    weight_PL1 = mask_PL.unsqueeze(-1).float()
    return (hidden_PLD.float() * weight_PL1).sum(1) / weight_PL1.sum(1).clamp(min=1e-9)


def pool(hidden_PLD: Tensor, mask_PL: Tensor, how: str) -> Tensor:
    """`cls` (the first token) or `mean`, float32 [P, D]."""
    return hidden_PLD[:, 0].float() if how == "cls" else mean_pool(hidden_PLD, mask_PL)
