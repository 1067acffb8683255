"""Linear layers in float32 on a CPU while training: oneDNN's products in the place of the default ones.

On an AMD processor the default is half as fast, forward and for both gradients (docs/performance.md); in bfloat16 torch
takes oneDNN by itself. Equal up to the order of sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stillhouse.rankers.processor import has_products

SMALLEST = 2**27
"""Multiplications of a product; oneDNN compiles one for each number of rows, which costs more than a small one."""


def dense(layer: Any, x: Tensor) -> Tensor:
    """What `layer(x)` gives, [..., D_in] -> [..., D_out]."""
    if not _fits(layer, x):
        result: Tensor = layer(x)
        return result
    flat: Tensor = _Dense.apply(x.reshape(-1, x.shape[-1]), layer.weight, layer.bias)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], -1)


def _fits(layer: Any, x: Tensor) -> bool:
    plain = type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks
    if not plain or torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
        return False
    if x.dtype != torch.float32 or layer.weight.dtype != torch.float32:
        return False
    return x.numel() * layer.out_features >= SMALLEST and has_products()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """x W^T + b by oneDNN, with W as it lies in memory or laid out for it; `then` is what follows: none or gelu."""
    algorithm = "none" if then == "gelu" else ""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], algorithm)
    return result


class _Dense(torch.autograd.Function):
    """y = x W^T + b; dx = g W, dW = g^T x, db = the sum of g over rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        reads, trains, shifts = ctx.needs_input_grad
        return (
            product(g, weight.t()) if reads else None,
            product(g.t(), x.t()) if trains else None,
            g.sum(0) if shifts else None,
        )
