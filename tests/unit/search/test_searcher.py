from __future__ import annotations

from stillhouse.search.searcher import nested_metrics


def test_numbers_that_tune_adds_are_no_metrics() -> None:
    result = {
        "nDCG@10": 0.5,
        "train/loss": 2,
        "step": 20,
        "done": True,
        "training_iteration": 2,
        "time_total_s": 3.0,
        "timestamp": 1.0,
        "pid": 7,
        "hostname": "here",
        "config/trial/number": 3,
    }
    assert nested_metrics(result) == {"nDCG@10": 0.5, "train/loss": 2.0}
