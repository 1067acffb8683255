from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from stillhouse.evaluation.diagnostics import ScoreSpread, score_spread
from stillhouse.evaluation.figures import effectiveness_latency, learning_curves, margin_histogram, score_histograms


def _spread() -> ScoreSpread:
    run = {"q1": {"a": 5.0, "b": 1.0, "c": 3.0}, "q2": {"a": 2.0, "b": 2.0}, "other": {"a": 99.0}}
    return score_spread("toy", run, {"q1": {"a": 1, "b": 0}, "q2": {"b": 2}})


def test_spread_by_hand() -> None:
    spread = _spread()
    assert spread.positives.tolist() == [5.0, 2.0]
    assert spread.negatives.tolist() == [1.0, 3.0, 2.0]
    # Ranges 4 and 0; the pairs differ by 4, 2 and 0, the last is a tie.
    assert spread.score_range == 4.0
    assert spread.margins.tolist() == [1.0, 0.5, 0.0]
    assert spread.pairwise_accuracy == pytest.approx(2.5 / 3)
    assert spread.offset == pytest.approx(13 / 5)
    assert spread.summary() == {
        "positive_mean": 3.5,
        "negative_mean": 2.0,
        "score_range": 4.0,
        "margin_median": 0.5,
        "pairwise_accuracy": pytest.approx(2.5 / 3),
    }


def test_relevance_level_and_nothing_to_compare() -> None:
    spread = score_spread("toy", {"q": {"a": 1.0, "b": 0.0}}, {"q": {"a": 1, "b": 2}}, relevance=2)
    assert spread.margins.tolist() == [-1.0]
    empty = score_spread("toy", {"q": {}}, {"q": {"a": 1}})
    assert (len(empty.positives), empty.summary()) == (0, {})
    assert math.isnan(empty.pairwise_accuracy)


def test_an_offset_changes_neither_margins_nor_accuracy() -> None:
    scores_QK = np.random.default_rng(0).normal(size=(5, 9)).tolist()
    run = {f"q{q}": {f"d{d}": score for d, score in enumerate(scores)} for q, scores in enumerate(scores_QK)}
    qrels = {f"q{q}": {"d0": 1, "d1": 1} for q in range(5)}
    moved = {query: {doc: score + 700 for doc, score in scores.items()} for query, scores in run.items()}
    first, second = score_spread("a", run, qrels), score_spread("b", moved, qrels)
    assert second.margins == pytest.approx(first.margins, abs=1e-9)
    assert second.pairwise_accuracy == first.pairwise_accuracy
    assert second.offset == pytest.approx(first.offset + 700)


def test_pictures_are_written(tmp_path: Path) -> None:
    spreads = [_spread(), score_spread("empty", {}, {})]
    score_histograms(spreads, tmp_path / "scores.svg")
    margin_histogram(spreads, tmp_path / "margins.svg")
    learning_curves({"dev": [(0, 0.1), (10, 0.3)], "train": []}, tmp_path / "curves.svg", "nDCG@10")
    effectiveness_latency([("student", 3.0, 0.4), ("teacher", 90.0, 0.5)], tmp_path / "latency.svg", "nDCG@10")
    for name in ("scores", "margins", "curves", "latency"):
        assert (tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    score_histograms(spreads, tmp_path / "scores.png", centred=False)
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 5
