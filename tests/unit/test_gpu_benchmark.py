"""benchmarks/gpu.py at toy size on a CPU: its counts against the models themselves, and a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import MODELS, TOY, Reranker, forward_flop, main


@pytest.mark.parametrize("name", list(TOY))
def test_flop_of_a_forward_are_those_that_torch_counts(name: str) -> None:
    model = TOY[name]
    ranker = Reranker(model, torch.device("cpu"), torch.float32)
    ids_PL = torch.randint(0, model.words, (model.score_rows, model.tokens))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ranker(ids_PL)
    # torch counts a causal attention whole, BERT's pooler, and the head; a linear layer with bias like one without.
    tokens = model.score_rows * model.tokens
    attention = model.layers * 4 * tokens * model.tokens * model.width
    linears = forward_flop(model, model.score_rows) - attention * (0.5 if model.kind == "causal" else 1.0)
    pooler = 2 * model.score_rows * model.width**2 if model.kind == "encoder" else 0
    head = 2 * model.score_rows * model.width
    counted = counter.get_total_flops()
    assert counted - pooler - head in (pytest.approx(linears + attention), pytest.approx(linears))


def test_shapes_have_the_published_numbers_of_parameters() -> None:
    """Without biases and norms: BERT-base 85 million in its blocks, Qwen2.5 0.36 and 6.5 billion (non-embedding)."""
    counts = {
        name: model.layers * sum(inputs * outputs for inputs, outputs in model.products())
        for name, model in MODELS.items()
    }
    assert counts["bert-base"] == pytest.approx(85e6, rel=0.01)
    assert counts["0.5b"] == pytest.approx(0.36e9, rel=0.01)
    assert counts["7b"] == pytest.approx(6.53e9, rel=0.01)


def test_a_whole_run_at_toy_size(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    try:
        main(["--toy", "--output", str(output)])
    finally:
        torch.distributed.destroy_process_group()
    result = json.loads(output.read_text())
    ways = ("scoring", "training", "training, FSDP2")
    assert [row["name"] for row in result["rows"]] == [f"{name}, {way}" for name in TOY for way in ways]
    for row in result["rows"]:
        assert row["values"]["pairs_per_second"] > 0
        assert 0 < row["ratio"] < 1
    assert result["versions"]["torch"] == torch.__version__


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit, match=r"'9b' is none of bert-base, 0\.5b, 7b"):
        main(["--models", "9b"])
