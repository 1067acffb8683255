from __future__ import annotations

import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
import pytrec_eval

from stillhouse.candidates import candidates_for
from stillhouse.candidates.ranking import best_first, id_ranks
from stillhouse.collection.texts import Ids
from stillhouse.recipe.tree import CandidatesSpec


def test_ties_are_broken_as_trec_eval_does():
    """trec_eval tells where it puts each document: the reciprocal rank when only that one is relevant."""
    generator = random.Random(0)
    doc_ids = [f"d{number}" for number in range(25)] + ["D1", "é", "z", "_x"]
    scores = np.array([generator.choice([1.0, 2.0, 2.0000001, 3.5]) for _ in doc_ids], dtype=np.float32)
    order = best_first(scores, id_ranks(Ids(pa.chunked_array([doc_ids[:9], doc_ids[9:]]))), len(doc_ids))
    run = {doc_id: float(score) for doc_id, score in zip(doc_ids, scores, strict=True)}
    for position, row in enumerate(order, start=1):
        evaluator = pytrec_eval.RelevanceEvaluator({"q": {doc_ids[row]: 1}}, {"recip_rank"})
        assert evaluator.evaluate({"q": run})["q"]["recip_rank"] == pytest.approx(1 / position)


def test_a_depth_is_the_prefix_of_the_full_order():
    scores = np.random.default_rng(0).integers(0, 6, 200).astype(np.float32)
    ranks = id_ranks(Ids(pa.chunked_array([[f"d{number}" for number in range(200)]])))
    full = best_first(scores, ranks, 200).tolist()
    for depth in (1, 2, 17, 199, 200, 500):
        assert best_first(scores, ranks, depth).tolist() == full[:depth]


@pytest.fixture
def read(collect, tmp_path):
    docs = {f"d{number}": f"text {number}" for number in range(6)}
    collection = collect(docs, {"q0": "a", "q1": "b", "q2": "c"})
    (tmp_path / "run").write_text("".join(f"q{q} Q0 d{d} 0 {10 - d} x\n" for q in (0, 2) for d in range(5)))
    spec = CandidatesSpec(source=str(tmp_path / "run"))
    return collection, candidates_for(spec, collection, "test", tmp_path / "root")


def test_recall_by_hand(read):
    _, candidates = read
    # q0: 1 of 2 positives in the first 2 (d5 is never found); q1 has no candidates, q2 no positives.
    qrels = {0: {1: 1, 5: 2, 0: 0}, 1: {0: 1}, 2: {0: 0}}
    assert candidates.recall(qrels, 2) == pytest.approx((1 / 2 + 0) / 2)
    assert candidates.recall(qrels, 1) == 0
    assert candidates.recall({0: {0: 1, 3: 1}}) == 1


def test_a_run_can_be_cut(read):
    collection, candidates = read
    assert candidates.run(collection, "test", depth=2) == {q: {"d0": 10.0, "d1": 9.0} for q in ("q0", "q2")}


def test_rows_beyond_the_split_are_errors(read):
    _, candidates = read
    assert len(candidates) == 3
    for row in (-1, 3):
        with pytest.raises(IndexError):
            candidates.rows(row)


def test_only_the_path_is_pickled(read):
    _, candidates = read
    rows = candidates.rows(2).tolist()
    data = pickle.dumps(candidates)
    assert len(data) < 500
    assert pickle.loads(data).rows(2).tolist() == rows == [0, 1, 2, 3, 4]
