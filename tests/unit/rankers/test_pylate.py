"""PyLate itself reads our export: needs an environment that holds it, named by STILLHOUSE_PYLATE_PYTHON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.pylate_parity import combinations, compare
from tests.contracts.tiny_models import write_model

PYTHON = os.environ.get("STILLHOUSE_PYLATE_PYTHON")
RESULT = Path(__file__).parents[3] / "benchmarks" / "results" / "pylate_parity.json"


@pytest.mark.skipif(PYTHON is None, reason="PyLate pins older libraries: set STILLHOUSE_PYLATE_PYTHON to its python")
def test_pylate_scores_as_we_do(tmp_path: Path) -> None:
    result = compare(str(PYTHON), str(write_model(tmp_path / "bert", "bert")), projection=8)
    assert result["max_score"] > 1
    assert result["max_difference"] < 1e-4


def test_the_stored_result_is_of_these_switches() -> None:
    stored = json.loads(RESULT.read_text())
    assert [case["switches"] for case in stored["cases"]] == combinations()
    assert stored["max_difference"] == max(case["max_difference"] for case in stored["cases"]) < 1e-4
    assert stored["different_score_tables"] == len(stored["cases"])
