"""How fast this machine multiplies matrices of a shape, and how long a model's products take at that rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch.nn.functional import linear


@dataclass(frozen=True)
class Shape:
    """A BERT-like encoder: layers, width, feed-forward width, heads."""

    layers: int
    width: int
    feed_forward: int
    heads: int


def best(call: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of some timings after one to warm up, in seconds; on a GPU with its queue empty before and after."""
    call()
    seconds = []
    for _ in range(repeats):
        _wait()
        start = time.perf_counter()
        call()
        _wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@cache
def linear_rate(rows: int, inputs: int, outputs: int, dtype: torch.dtype, device: str = "cpu") -> float:
    """FLOP/s of x W^T + b, by the faster of the library's ways."""
    x, weight, bias = (_random(dtype, device, *size) for size in ((rows, inputs), (outputs, inputs), (outputs,)))
    ways = [lambda: linear(x, weight, bias)]
    if device == "cpu" and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        prepared = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(x, prepared, bias, "none", [], ""))
    with torch.inference_mode():
        return 2 * rows * inputs * outputs / min(best(way) for way in ways)


@cache
def batched_rate(number: int, rows: int, inner: int, columns: int, dtype: torch.dtype, device: str = "cpu") -> float:
    """FLOP/s of `number` products [rows, inner] x [inner, columns] in one call."""
    left, right = _random(dtype, device, number, rows, inner), _random(dtype, device, number, inner, columns)
    with torch.inference_mode():
        return 2 * number * rows * inner * columns / best(lambda: torch.bmm(left, right))


def seconds_at_limit(
    shape: Shape,
    lengths: Iterable[int],
    dtype: torch.dtype,
    budget: int,
    *,
    last_layer_whole: bool,
    device: str = "cpu",
) -> float:
    """Seconds of all products of a scoring pass over rows of these lengths, each at the rate of its shape.

    Padding is not counted; shapes are those of a full batch of `budget` tokens. Not `last_layer_whole`: of the last
    layer the products that the first token's state needs, those of one row at the rate of the whole.
    """
    rows = list(lengths)
    width, wide, size = shape.width, shape.feed_forward, shape.width // shape.heads
    tokens, pairs = sum(rows), len(rows)
    mean = max(8, round(tokens / pairs / 8) * 8)
    number = max(1, budget // mean) * shape.heads

    def linears(inputs: int, outputs: int, count: int) -> float:
        return 2 * count * inputs * outputs / linear_rate(budget, inputs, outputs, dtype, device)

    def attention(query_rows: Iterable[int]) -> float:
        work = sum(2 * one * length * width for one, length in zip(query_rows, rows, strict=True))
        to_keys = batched_rate(number, mean, size, mean, dtype, device)
        return work / to_keys + work / batched_rate(number, mean, mean, size, dtype, device)

    def after(count: int) -> float:
        return linears(width, width, count) + linears(width, wide, count) + linears(wide, width, count)

    whole = linears(width, 3 * width, tokens) + after(tokens) + attention(rows)
    if last_layer_whole:
        return shape.layers * whole
    last = linears(width, 2 * width, tokens) + linears(width, width, pairs) + after(pairs) + attention([1] * pairs)
    return (shape.layers - 1) * whole + last


def _random(dtype: torch.dtype, device: str, *size: int) -> torch.Tensor:
    return torch.randn(*size, device=device).to(dtype)
