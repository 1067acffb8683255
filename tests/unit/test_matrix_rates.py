"""benchmarks/matrix_rates.py: the work it counts is what torch counts for the library's own forward."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks import matrix_rates
from benchmarks.matrix_rates import Shape, seconds_at_limit

SHAPE = Shape(layers=3, width=32, feed_forward=48, heads=4)


@pytest.fixture
def one_flop_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_rates, "linear_rate", lambda *_: 1.0)
    monkeypatch.setattr(matrix_rates, "batched_rate", lambda *_: 1.0)


def test_the_work_of_whole_layers_is_what_torch_counts(one_flop_a_second: None) -> None:
    config = BertConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, vocab_size=50)
    model = BertModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for length in (5, 9):
            model(torch.zeros(1, length, dtype=torch.long))
    assert seconds_at_limit(SHAPE, [5, 9], torch.float32, 64, last_layer_whole=True) == counter.get_total_flops()


def test_the_last_layer_for_one_token(one_flop_a_second: None) -> None:
    """Two whole layers; then keys and values of 5 tokens, and for one row 2 D^2 + 2 D F products and attention."""
    whole = 5 * (8 * 32**2 + 4 * 32 * 48) + 4 * 5 * 5 * 32
    last = 5 * 4 * 32**2 + (4 * 32**2 + 4 * 32 * 48) + 4 * 5 * 32
    assert seconds_at_limit(SHAPE, [5], torch.float32, 64, last_layer_whole=False) == 2 * whole + last


def test_rates_are_positive_and_kept() -> None:
    first = matrix_rates.linear_rate(64, 32, 48, torch.float32)
    assert first > 0
    assert matrix_rates.linear_rate(64, 32, 48, torch.float32) == first
    assert matrix_rates.batched_rate(4, 8, 16, 8, torch.bfloat16) > 0
