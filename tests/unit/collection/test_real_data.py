"""Published collections, where the reader has them: STILLHOUSE_DATA names a folder with one folder per collection."""

from __future__ import annotations

import os
from pathlib import Path

import ir_measures
import pytest
from ir_measures import RR, R, nDCG

from stillhouse.candidates import candidates_for
from stillhouse.collection import materialise
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec

DATA = os.environ.get("STILLHOUSE_DATA")


def _folder(name: str) -> Path:
    if not DATA:
        pytest.skip("STILLHOUSE_DATA is not set; it names a folder with medquad/ and scifact/")
    folder = Path(DATA) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


# Values published for these files with BM25 (Lucene, k1 1.2, b 0.75, English stems and stop words, title and text).
@pytest.mark.parametrize(
    ("name", "dev", "documents", "queries", "expected"),
    [
        ("scifact", "train", 5183, 300, {nDCG @ 10: 0.6791, RR @ 10: 0.6431, R @ 100: 0.9127}),
        ("medquad", "dev", 15808, 1676, {nDCG @ 10: 0.6364, RR @ 10: 0.5558, R @ 100: 0.9823}),
    ],
)
def test_bm25_has_its_published_quality(name, dev, documents, queries, expected, tmp_path):
    folder = _folder(name)
    collection = materialise(CollectionSpec(train=str(folder), dev=f"{folder}/{dev}", test=str(folder)), 0, tmp_path)
    assert len(collection.docs) == documents
    test = collection.splits["test"]
    assert len(test.queries) == queries
    candidates = candidates_for(CandidatesSpec(depth=100, k1=1.2, b=0.75), collection, "test", tmp_path)
    qrels = {
        test.queries.ids[row]: {collection.docs.ids[doc]: grade for doc, grade in grades.items()}
        for row, grades in test.qrels.items()
    }
    measured = ir_measures.calc_aggregate(list(expected), qrels, candidates.run(collection, "test"))
    for measure, value in expected.items():
        assert measured[measure] == pytest.approx(value, abs=5e-4)
    assert candidates.recall(test.qrels, 100) == pytest.approx(expected[R @ 100], abs=5e-4)
