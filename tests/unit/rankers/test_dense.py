"""Float32 products of linear layers while training: against the same layer in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse.rankers import dense as module
from stillhouse.rankers.dense import dense


@pytest.fixture(autouse=True)
def _any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", 1)


def made(shape: tuple[int, ...], *, bias: bool = True) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A layer from 24 to 40, inputs, and the gradient of the outputs."""
    torch.manual_seed(3)
    layer = nn.Linear(24, 40, bias=bias)
    return layer, torch.randn(*shape, 24, requires_grad=True), torch.randn(*shape, 40)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 9), (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_float64(shape: tuple[int, ...], bias: bool) -> None:
    layer, x, g = made(shape, bias=bias)
    exact, x64 = copy.deepcopy(layer).double(), x.detach().double().requires_grad_()
    exact(x64).backward(g.double())
    found = dense(layer, x)
    found.backward(g)
    pairs = [(found, exact(x64)), (x.grad, x64.grad), (layer.weight.grad, exact.weight.grad)]
    pairs += [(layer.bias.grad, exact.bias.grad)] if bias else []
    for ours, theirs in pairs:
        assert ours is not None
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def test_rows_that_are_not_together_in_memory() -> None:
    layer, x, _ = made((6, 5))
    (dense(layer, x[:, :1]) ** 2).sum().backward()
    ours, x.grad = x.grad, None
    layer.weight.grad = None
    (layer(x[:, :1]) ** 2).sum().backward()
    torch.testing.assert_close(ours, x.grad, rtol=1e-5, atol=1e-5)


def test_what_is_frozen_gets_no_gradient() -> None:
    layer, x, g = made((4,))
    layer.weight.requires_grad_(False)
    dense(layer, x).backward(g)
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    torch.testing.assert_close(x.grad, g @ layer.weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["bfloat16", "float64", "autocast", "hooked", "adapted", "small"])
def test_anything_else_runs_as_it_is(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, _ = made((4,))
    called: list[Any] = []
    monkeypatch.setattr(module, "product", lambda *arguments: called.append(arguments))
    if case in ("bfloat16", "float64"):
        layer, x = layer.to(getattr(torch, case)), x.to(getattr(torch, case))
    if case == "small":
        monkeypatch.setattr(module, "SMALLEST", 4 * 24 * 40 + 1)
    if case == "hooked":
        layer.register_forward_hook(lambda *_: None)
    if case == "adapted":
        layer = nn.Sequential(layer)  # type: ignore[assignment]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "autocast"):
        torch.testing.assert_close(dense(layer, x), layer(x), rtol=0, atol=0)
    assert not called
