from __future__ import annotations

import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from stillhouse.candidates import bm25, candidates_for
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CandidatesSpec

# Words that the stemmer leaves alone, so that the arithmetic below needs none.
DOCS = {
    "a": "cat cat dog",
    "b": "dog bird",
    "c": "cat fish fish fish bird",
    "d": "lion",
    "e": "the of and",  # stop words only: indexed, empty
}


def lucene_bm25(query: str, docs: dict[str, str], k1: float, b: float) -> dict[str, float]:
    """The formula of Kamphuis et al. (2020), term by term, over words as they stand."""
    words = {key: [word for word in text.split() if word not in ("the", "of", "and")] for key, text in docs.items()}
    average = sum(len(doc) for doc in words.values()) / len(words)
    scores = {}
    for key, doc in words.items():
        total = 0.0
        for term in query.split():
            df = sum(term in other for other in words.values())
            tf = doc.count(term)
            if tf:
                idf = math.log(1 + (len(words) - df + 0.5) / (df + 0.5))
                total += idf * tf / (tf + k1 * (1 - b + b * len(doc) / average))
        if total > 0:
            scores[key] = total
    return scores


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.0), (2.0, 1.0)])
def test_scores_are_the_formula(collect, tmp_path, k1, b):
    queries = {"q1": "cat", "q2": "cat bird", "q3": "fish dog", "q4": "dog dog bird"}
    collection = collect(DOCS, queries)
    candidates = candidates_for(CandidatesSpec(depth=10, k1=k1, b=b), collection, "test", tmp_path / "root")
    run = candidates.run(collection, "test")
    for query_id, text in queries.items():
        expected = lucene_bm25(text, DOCS, k1, b)
        assert run[query_id] == pytest.approx(expected, rel=1e-5)
        assert list(run[query_id]) == sorted(expected, key=lambda doc: (-np.float32(run[query_id][doc]), -ord(doc)))


def test_one_score_by_hand(collect, tmp_path):
    # N = 5, avgdl = (3 + 2 + 5 + 1 + 0) / 5 = 2.2, df(lion) = 1, tf = 1, |d| = 1:
    # ln(1 + 4.5 / 1.5) / (1 + 0.9 (0.6 + 0.4 / 2.2)) = 1.386294 / 1.703636 = 0.813727
    collection = collect(DOCS, {"q": "lion"})
    candidates = candidates_for(CandidatesSpec(), collection, "test", tmp_path / "root")
    assert candidates.scores(0).tolist() == pytest.approx([0.813727], abs=1e-6)
    assert candidates.rows(0).tolist() == [3]
    assert candidates.rows(0).dtype == np.int32
    assert candidates.scores(0).dtype == np.float32


def test_words_are_stemmed_and_stop_words_dropped():
    assert bm25.tokenise(["The Running of the dogs!", "", "x"]) == [["run", "dog"], [], []]


def test_queries_without_candidates_stay_and_are_counted(collect, tmp_path, caplog):
    collection = collect(DOCS, {"q1": "zebra", "q2": "cat", "q3": "the", "q4": "?"})
    with caplog.at_level(logging.WARNING, logger="stillhouse"):
        candidates = candidates_for(CandidatesSpec(), collection, "dev", tmp_path / "root")
    assert len(candidates) == 4
    assert [len(candidates.rows(row)) for row in range(4)] == [0, 2, 0, 0]
    assert candidates.facts == {"queries": 4, "pairs": 2, "queries without candidates": 3}
    assert set(candidates.run(collection, "dev")) == {"q2"}
    assert "bm25 (dev): 3 queries without candidates" in caplog.text


def test_equal_scores_are_cut_and_ordered_by_id(collect, tmp_path):
    docs = {f"d{number}": "same words" for number in (3, 10, 2, 7, 1)}
    collection = collect(docs, {"q": "same"})
    candidates = candidates_for(CandidatesSpec(depth=3), collection, "test", tmp_path / "root")
    assert [collection.docs.ids[row] for row in candidates.rows(0)] == ["d7", "d3", "d2"]


def test_depth_is_a_prefix(collect, tmp_path):
    docs = {f"d{number}": "cat " * (number % 7 + 1) + "dog " * (number % 5) for number in range(50)}
    collection = collect(docs, {"q": "cat dog"})
    deep = candidates_for(CandidatesSpec(depth=50), collection, "test", tmp_path / "root")
    shallow = candidates_for(CandidatesSpec(depth=9), collection, "test", tmp_path / "root")
    assert shallow.rows(0).tolist() == deep.rows(0)[:9].tolist()
    assert shallow.key != deep.key


def test_a_collection_without_a_word_is_an_error(collect, tmp_path):
    with pytest.raises(CollectionError, match="no document has a word that BM25 can index"):
        candidates_for(CandidatesSpec(), collect({"a": "the", "b": "?"}, {"q": "cat"}), "test", tmp_path / "root")


def test_equal_texts_share_their_candidates_and_index(collect, tmp_path, monkeypatch):
    collection = collect(DOCS, {"q": "cat"})
    first = candidates_for(CandidatesSpec(), collection, "test", tmp_path / "root")
    monkeypatch.setattr(bm25, "tokenise", lambda _: pytest.fail("ranked again"))
    assert candidates_for(CandidatesSpec(), collection, "train", tmp_path / "root").key == first.key


def test_the_order_of_hashes_changes_nothing(collect, tmp_path):
    docs = {f"d{number}": " ".join(f"w{number * step % 17}x" for step in range(1, 12)) for number in range(200)}
    collection = collect(docs, {f"q{number}": f"w{number}x w{number * 3 % 17}x w5x" for number in range(12)})
    here = candidates_for(CandidatesSpec(depth=20), collection, "test", tmp_path / "root")
    code = (
        "import sys; from pathlib import Path\n"
        "from stillhouse.candidates import candidates_for; from stillhouse.collection import open_collection\n"
        "from stillhouse.recipe.tree import CandidatesSpec\n"
        "collection = open_collection(Path(sys.argv[1]))\n"
        "print(candidates_for(CandidatesSpec(depth=20), collection, 'test', Path(sys.argv[2])).path)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(collection.path), str(tmp_path / "elsewhere")]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert there != str(here.path)
    with open(there, "rb") as left, here.path.open("rb") as right:
        assert left.read() == right.read()
