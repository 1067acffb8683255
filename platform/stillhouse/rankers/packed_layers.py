"""BERT-like layers for scoring: weights laid out once for the matrix products, what follows a product fused into it.

oneDNN's products on prepared weights are twice as fast as the default in float32 on some processors, and take GELU
and the addition of the residual along. The operators are those that torch.compile calls; where this build of torch has
none, `of` gives None and the layers run as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from stillhouse.rankers.attention import HiddenKeys, attend, join_heads, split_heads
from stillhouse.rankers.dense import product
from stillhouse.rankers.processor import has_products

_kept: WeakKeyDictionary[nn.Module, tuple[Any, list[PackedLayer]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Product:
    """x W^T + b with W as oneDNN wants it."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        return product(x, self.weight, self.bias, then)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return result


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class PackedLayer:
    heads: int
    joined: Product | None
    """Query, key and value in one product; None in the last layer."""
    query: Product | None
    key_value: Product | None
    attention_output: Product
    attention_norm: Norm
    intermediate: Product
    activation: Any
    """None: GELU, which the product takes along."""
    output: Product
    output_norm: Norm


def of(model: nn.Module, layers: list[Any]) -> list[PackedLayer] | None:
    """The packed layers of a model, made again when its weights or the dtype to compute in have changed.

    None where they cannot be packed: adapters instead of linear layers, other dtypes, no such operators, and gradients
    that wait for an optimiser. Call `forget_on_backward` wherever a gradient may come from.
    """
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else parameters[0].dtype
    if dtype not in (torch.float32, torch.bfloat16) or not _can_pack(dtype):
        return None
    if not all(type(module) is nn.Linear for layer in layers for module in _linears(layer)):
        return None
    if any(parameter.grad is not None for parameter in parameters):
        return None
    # An inference tensor counts no versions. Fused optimisers change weights and count none: hence the forgetting.
    versions = [0 if one.is_inference() else one._version for one in parameters]
    key = (dtype, tuple(one.data_ptr() for one in parameters), tuple(versions))
    found = _kept.get(model)
    if found is None or found[0] != key:
        with torch.autocast("cpu", enabled=False):
            made = [_packed(layer, dtype, last=layer is layers[-1]) for layer in layers]
        found = _kept[model] = (key, made)
    return found[1]


def forget_on_backward(model: nn.Module, output: Tensor) -> None:
    """Drop what is packed when a gradient comes back through `output`: a change of the weights follows it."""
    if output.requires_grad:
        output.register_hook(lambda _: _kept.pop(model, None) and None)  # type: ignore[no-untyped-call]


def run(packed: list[PackedLayer], hidden_PLD: Tensor, hidden: HiddenKeys | None, *, first_only: bool) -> Tensor:
    """The last states [P, L, D], or [P, 1, D] of the first token."""
    with torch.autocast("cpu", enabled=False):
        hidden_PLD = hidden_PLD.to(packed[0].output_norm.weight.dtype)
        for layer in packed[:-1]:
            hidden_PLD = _run(layer, hidden_PLD, hidden_PLD, hidden)
        rows = hidden_PLD[:, :1].contiguous() if first_only else hidden_PLD
        return _run(packed[-1], rows, hidden_PLD, hidden)


def _run(layer: PackedLayer, rows_PMD: Tensor, hidden_PLD: Tensor, hidden: HiddenKeys | None) -> Tensor:
    num = len(hidden_PLD)
    if layer.joined is not None:
        query, key, value = _split(layer.joined(hidden_PLD), 3, layer.heads)
    else:
        assert layer.query is not None
        assert layer.key_value is not None
        query = split_heads(layer.query(rows_PMD), layer.heads)
        key, value = _split(layer.key_value(hidden_PLD), 2, layer.heads)
    context_PMD = join_heads(attend(query, key, value, hidden), num)
    attended_PMD = layer.attention_norm(layer.attention_output.plus(context_PMD, rows_PMD))
    if layer.activation is None:
        wide = layer.intermediate(attended_PMD, "gelu")
    else:
        wide = layer.activation(layer.intermediate(attended_PMD))
    return layer.output_norm(layer.output.plus(wide, attended_PMD))


def _split(joined: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[P, L, parts * D] as `parts` of [P * H, L, d], moved once."""
    num, length, width = joined.shape
    size = width // parts // heads
    moved = joined.view(num, length, parts, heads, size).permute(2, 0, 3, 1, 4).contiguous()
    return moved.view(parts, num * heads, length, size).unbind(0)


def _can_pack(dtype: torch.dtype) -> bool:
    if not has_products():
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _linears(layer: Any) -> list[nn.Module]:
    own = layer.attention.self
    outputs = [layer.attention.output.dense, layer.intermediate.dense, layer.output.dense]
    return [own.query, own.key, own.value, *outputs]


def _packed(layer: Any, dtype: torch.dtype, *, last: bool) -> PackedLayer:
    own = layer.attention.self
    act = layer.intermediate.intermediate_act_fn
    return PackedLayer(
        heads=own.num_attention_heads,
        joined=None if last else _product(dtype, own.query, own.key, own.value),
        query=_product(dtype, own.query) if last else None,
        key_value=_product(dtype, own.key, own.value) if last else None,
        attention_output=_product(dtype, layer.attention.output.dense),
        attention_norm=_norm(dtype, layer.attention.output.LayerNorm),
        intermediate=_product(dtype, layer.intermediate.dense),
        activation=None if type(act).__name__ == "GELUActivation" else act,
        output=_product(dtype, layer.output.dense),
        output_norm=_norm(dtype, layer.output.LayerNorm),
    )


def _product(dtype: torch.dtype, *linears: Any) -> Product:
    weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
    bias = torch.cat([linear.bias.detach() for linear in linears]).to(dtype)
    return Product(torch.ops.mkldnn._reorder_linear_weight(weight, None), bias)


def _norm(dtype: torch.dtype, norm: Any) -> Norm:
    return Norm(norm.weight.detach().to(dtype).clone(), norm.bias.detach().to(dtype).clone(), norm.eps)
