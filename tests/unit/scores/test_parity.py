"""The check before a bulk job: its numbers by hand, a dtype that passes, and one that does not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr

from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.scores.identity import identity_of
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.parity import compare
from stillhouse.scores.pipeline import ScoreReport, score_pairs
from stillhouse.scores.store import ScoreStore


def test_the_numbers_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    query_P = np.repeat([3, 5, 9], [6, 7, 1])
    plain, job = rng.normal(size=14), rng.integers(0, 3, size=14).astype(float)
    found = compare(query_P, plain, job)
    expected = np.mean([spearmanr(plain[query_P == q], job[query_P == q]).statistic for q in (3, 5)])
    assert found.rank_correlation == pytest.approx(expected)
    assert found.max_difference == pytest.approx(max(abs(a - b) for a, b in zip(plain, job, strict=True)))
    assert found.spread == pytest.approx(math.sqrt(sum((plain - plain.mean()) ** 2) / 14))
    equal = compare(query_P, np.ones(14), np.ones(14))
    assert (equal.relative_difference, math.isnan(equal.rank_correlation)) == (0.0, True)
    assert compare(query_P, np.ones(14), np.full(14, 2.0)).relative_difference == math.inf


def check(root: Path, teacher: Path, toy: Collection, dtype: str, tolerance: float) -> tuple[ScoreStore, ScoreReport]:
    pairs = pa.table({name: pa.array(rows, pa.int32()) for name, rows in _grid().items()})
    store = ScoreStore(root, identity_of(load_ranker(teacher), dtype))  # type: ignore[arg-type]
    report = score_pairs(
        store,
        teacher,
        toy,
        "train",
        pairs,
        dtype=dtype,  # type: ignore[arg-type]
        num_actors=0,
        parity_check=30,
        parity_tolerance=tolerance,
    )
    return store, report


def _grid() -> dict[str, list[int]]:
    rows = [(query, doc) for query in range(6) for doc in range(10)]
    return {"query_row": [query for query, _ in rows], "doc_row": [doc for _, doc in rows]}


def test_float32_agrees_with_itself_and_bfloat16_is_told_by_its_distance(
    tmp_path: Path, backbone: Path, toy: Collection
) -> None:
    teacher = tmp_path / "teacher"
    ranker = RANKERS["cross_encoder"].from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=16)
    ranker.save_pretrained(teacher)
    store, report = check(tmp_path, teacher, toy, "float32", 1e-6)
    assert report.parity is not None
    assert (report.parity.pairs, report.parity.max_difference, report.scored) == (30, 0.0, 60)
    assert report.parity.rank_correlation == pytest.approx(1)
    assert read_jobs(store.path)[0]["parity"]["pairs"] == 30

    store, report = check(tmp_path, teacher, toy, "bfloat16", 100.0)
    found = report.parity
    assert found is not None
    # The same pairs by the rankers themselves.
    queries, docs = toy.splits["train"].queries, toy.docs
    texts = (queries.texts(range(6)), [docs.texts(range(10))] * 6)
    plain = load_ranker(teacher).score(*texts).numpy()
    rounded = load_ranker(teacher).for_scoring(torch.bfloat16).score(*texts).numpy()
    assert 0 < found.max_difference <= np.abs(plain - rounded).max() * 1.5
    with pytest.raises(StoreError, match=r"parity check: bfloat16 on cpu is too far .* set store\.dtype to float32"):
        check(tmp_path / "other", teacher, toy, "bfloat16", found.relative_difference / 2)
    assert not list((tmp_path / "other").glob("*/part=*"))
