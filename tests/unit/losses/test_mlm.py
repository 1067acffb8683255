"""The auxiliary loss on masked tokens."""

from __future__ import annotations

import math

import pytest
import torch

from stillhouse.errors import TrainingError
from stillhouse.losses import LOSSES
from stillhouse.losses.mlm import IGNORED, mlm


def test_mean_over_the_masked_tokens_of_each_text() -> None:
    # Odds 3 : 1 for the right token, then even odds; the second text has one masked token, the third none.
    logits = torch.zeros(3, 3, 2, dtype=torch.float64)
    logits[0, 0, 1] = math.log(3)
    logits[2] = torch.nan
    label = torch.tensor([[1, 0, IGNORED], [IGNORED, 1, IGNORED], [IGNORED] * 3])
    logits.requires_grad_()
    value_P, weight_P = mlm(logits, label)
    assert value_P.tolist() == pytest.approx([(math.log(4 / 3) + math.log(2)) / 2, math.log(2), 0.0])
    assert weight_P.tolist() == [2.0, 1.0, 0.0]
    value_P.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].tolist() == pytest.approx([0.25 / 2, -0.25 / 2])
    assert not logits.grad[label == IGNORED].any()


def test_bf16_is_computed_in_float32() -> None:
    logits = torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    label = torch.tensor([[3, 7, IGNORED, 1], [IGNORED, 49, 0, IGNORED]])
    value_P, weight_P = mlm(logits, label)
    assert value_P.dtype == torch.float32
    weighted = (value_P * weight_P).sum() / weight_P.sum()
    p = logits.detach().double().softmax(-1)
    right = [p[0, 0, 3], p[0, 1, 7], p[0, 3, 1], p[1, 1, 49], p[1, 2, 0]]
    assert weighted.item() == pytest.approx(-sum(math.log(x) for x in right) / 5, rel=1e-6)


def test_shapes_are_checked() -> None:
    with pytest.raises(TrainingError, match=r"\(2, 4, 50\) must be .* labels \(2, 5\)"):
        mlm(torch.zeros(2, 4, 50), torch.zeros(2, 5, dtype=torch.long))


def test_it_is_found_by_name_but_is_no_loss_over_scores() -> None:
    # One token at even odds, one at 3 : 1.
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    value_P, weight_P = LOSSES["mlm"](logits, torch.tensor([[0, 1]]))  # type: ignore[call-arg]
    assert value_P.tolist() == pytest.approx([(math.log(2) + math.log(4 / 3)) / 2])
    assert weight_P.tolist() == [2.0]
    assert LOSSES["mlm"].name == "mlm"
    assert "mlm" not in LOSSES
    assert "mlm" not in list(LOSSES)
    with pytest.raises(KeyError, match="oracle"):
        LOSSES["oracle"]
