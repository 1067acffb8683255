from __future__ import annotations

import gzip
import logging

import pytest

from stillhouse.candidates import candidates_for
from stillhouse.candidates.run_file import source_of
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CandidatesSpec

DOCS = {"d1": "one", "d2": "two", "d3": "three"}
QUERIES = {"q1": "first", "q2": "second", "q3": "third"}
RUN = "q1 Q0 d2 1 7.5 x\nq1 Q0 d1 2 9.5 x\nq3 Q0 d3 1 -1 x\n"


@pytest.fixture
def read(collect, tmp_path):
    collection = collect(DOCS, QUERIES)

    def go(text: str, name: str = "run.trec", depth: int = 10):
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        candidates = candidates_for(
            CandidatesSpec(source=str(tmp_path / name), depth=depth), collection, "test", tmp_path / "root"
        )
        return candidates, candidates.run(collection, "test")

    return go


def test_scores_order_a_run_not_its_ranks(read):
    candidates, run = read(RUN)
    assert [list(docs) for docs in run.values()] == [["d1", "d2"], ["d3"]]
    assert run == {"q1": {"d1": 9.5, "d2": 7.5}, "q3": {"d3": -1.0}}
    assert candidates.rows(1).tolist() == []
    assert candidates.facts["queries without candidates"] == 1


def test_gzip(read):
    assert read(RUN, "run.trec.gz")[1] == read(RUN)[1]


def test_each_split_has_its_own_file(collect, tmp_path):
    collection = collect(DOCS, QUERIES)
    for split, doc in (("train", "d1"), ("test", "d2")):
        (tmp_path / f"{split}.trec").write_text(f"q1 Q0 {doc} 1 1.0 x\n")
    spec = CandidatesSpec(source=str(tmp_path / "{split}.trec"))
    assert candidates_for(spec, collection, "train", tmp_path / "root").rows(0).tolist() == [0]
    assert candidates_for(spec, collection, "test", tmp_path / "root").rows(0).tolist() == [1]
    with pytest.raises(CollectionError, match=r"dev\.trec is no file; expected bm25, scoreddocs, or a TREC run"):
        candidates_for(spec, collection, "dev", tmp_path / "root")


def test_files_beside_the_collections_of_this_machine(collect, tmp_path, monkeypatch):
    collection = collect(DOCS, QUERIES)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "candidates.train.trec").write_text("q1 Q0 d2 1 1.0 x\n")
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    spec = CandidatesSpec(source="$STILLHOUSE_DATA/mine/candidates.{split}.trec or bm25")
    assert source_of(spec.source, "train") == "$STILLHOUSE_DATA/mine/candidates.{split}.trec"
    assert source_of(spec.source, "test") == "bm25"
    assert candidates_for(spec, collection, "train", tmp_path / "root").rows(0).tolist() == [1]
    missing = CandidatesSpec(source="$STILLHOUSE_DATA/others/{split}.trec")
    with pytest.raises(CollectionError, match=r"no folder others in .*; set STILLHOUSE_DATA"):
        candidates_for(missing, collection, "train", tmp_path / "root")


def test_a_changed_file_is_read_again(read):
    assert read(RUN)[1]["q3"] == {"d3": -1.0}
    assert read(RUN.replace("-1", "4"))[1]["q3"] == {"d3": 4.0}


def test_unknown_ids_are_counted_and_logged(read, caplog):
    with caplog.at_level(logging.WARNING, logger="stillhouse"):
        candidates, run = read(RUN + "q1 Q0 x9 3 1 x\nq9 Q0 d1 1 1 x\nq9 Q0 d2 2 1 x\n")
    assert run["q1"] == {"d1": 9.5, "d2": 7.5}
    assert candidates.facts["lines of unknown documents"] == 1
    assert candidates.facts["lines of queries not in the split"] == 2
    assert "1 lines of unknown documents" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q9 Q0 d1 1 1 x\nq1 Q0 d9 1 1 x\n", r"none of 2 lines names a query of test and a document of the collection"),
        (RUN + "q1 Q0 d1 3 1.0 x\n", r"run\.trec, line 4: document d1 stands twice for query q1"),
        (RUN + "q2 d1 1.0\n", r"run\.trec, line 4: found 'q2 d1 1\.0'; expected six columns"),
        (RUN + "q2 Q0 d1 1 high x\n", r"run\.trec, line 4: found .*expected six columns"),
        (RUN + "q2 Q0 d1 1 nan x\n", r"run\.trec, line 4: score nan is not finite"),
    ],
)
def test_what_cannot_be_used_is_named(read, text, message):
    with pytest.raises(CollectionError, match=message):
        read(text)


def test_a_split_without_a_run_is_served_by_what_is_named_after_it(collect, tmp_path):
    collection = collect(DOCS, QUERIES)
    source = f"{tmp_path}/run.{{split}}.trec or bm25"
    with pytest.raises(CollectionError, match=r"run\.\{split\}\.trec is no file for train, dev or test"):
        candidates_for(CandidatesSpec(source=source), collection, "test", tmp_path)
    (tmp_path / "run.train.trec").write_text(RUN)

    def key(source: str, split: str) -> str:
        return candidates_for(CandidatesSpec(source=source), collection, split, tmp_path).key

    assert key(source, "test") == key("bm25", "test")
    assert key(source, "train") == key(f"{tmp_path}/run.train.trec", "train")
