"""The benchmarks of scale run what they say: the plain loop scores the pairs of the pipeline, and no pair twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.candidates_growth import measure
from benchmarks.import_time import loaded
from benchmarks.scoring_overhead import check_equal, plain_loop
from benchmarks.worlds import TINY, pairs_of, write_collection, write_teacher
from stillhouse.rankers import load_ranker
from stillhouse.scores.identity import identity_of
from stillhouse.scores.pipeline import score_pairs
from stillhouse.scores.store import ScoreStore


def test_the_plain_loop_has_the_scores_of_the_pipeline(tmp_path: Path) -> None:
    collection = write_collection(tmp_path, docs=60, queries=12)
    assert (len(collection.docs), len(collection.splits["train"].queries)) == (60, 12)
    teacher = write_teacher(tmp_path / "model", TINY, query_max_length=4, doc_max_length=10)
    pairs = pairs_of(12, 60, 9)
    rows = list(zip(pairs["query_row"].to_pylist(), pairs["doc_row"].to_pylist(), strict=True))
    assert len(set(rows)) == len(rows) == 12 * 9
    store = ScoreStore(tmp_path / "scores", identity_of(load_ranker(teacher), "float32"))
    assert score_pairs(store, teacher, collection, "train", pairs, dtype="float32", num_actors=0).scored == len(rows)
    query_rows, doc_rows, scores = plain_loop(tmp_path, teacher, collection, pairs)
    assert set(zip(query_rows.tolist(), doc_rows.tolist(), strict=True)) == set(rows)
    assert np.ptp(scores) > 1e-4
    check_equal(collection, query_rows, doc_rows, scores, [store])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_equal(collection, query_rows, doc_rows, scores + 0.1, [store])


def test_candidates_are_measured_on_the_documents_asked_for() -> None:
    found = measure(300)
    assert 0 < found["columns"]["pairs"] <= 200 * 100
    assert found["seconds"] > 0


def test_what_a_line_of_code_loads_is_seen() -> None:
    assert loaded("import json", ["json", "numpy"]) == ["json"]
    assert loaded("import sys, numpy; sys.exit(3)", ["numpy", "torch"]) == ["numpy"]
