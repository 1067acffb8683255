"""`stillhouse retrieve` and `stillhouse rerank RUN`, from files to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.candidates import candidates_for
from stillhouse.collection import materialise
from stillhouse.evaluation.trec import ranked, read_run
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def student(backbone: Path, tmp_path: Path) -> Path:
    caps = {"query_max_length": 16, "doc_max_length": 32}
    RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, **caps).save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_retrieve_then_mine_then_rerank(
    collection_folder: Path, backbone: Path, student: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    done = call("retrieve", "student", "--collection", collection_folder, "--split", "train", "--depth", "9")
    assert done.status == 0, done.err
    assert "24 queries are in run.trec.gz" in done.out
    run = read_run(tmp_path / "run.trec.gz")
    texts = {row["doc_id"]: row["text"] for row in rows(collection_folder / "corpus.jsonl")}
    queries = {row["query_id"]: row["text"] for row in rows(collection_folder / "queries.train.jsonl")}
    assert run.keys() == queries.keys()
    ranker = load_ranker(student)
    for query_id in ("q0", "q11"):
        scores = ranker.score([queries[query_id]], [list(texts.values())])[0].tolist()
        best = sorted(zip(scores, texts, strict=True), reverse=True)[:9]
        assert ranked(run[query_id]) == [doc_id for _, doc_id in best]
        assert sorted(run[query_id].values(), reverse=True) == pytest.approx([score for score, _ in best], abs=1e-4)

    # The run is a source of candidates for a recipe on the same folder.
    folder = str(collection_folder)
    toy = materialise(CollectionSpec(train=folder, dev=folder, test=folder), 0, tmp_path / "home")
    mined = candidates_for(CandidatesSpec(source="run.trec.gz", depth=5), toy, "train", tmp_path / "home")
    names = toy.splits["train"].queries.ids
    assert [toy.docs.ids[doc] for doc in mined.rows(names.index("q0"))] == ranked(run["q0"])[:5]

    # And it is re-ranked to any depth.
    other = RANKERS["cross_encoder"].from_backbone(str(backbone), seed=2, query_max_length=16, doc_max_length=32)
    other.save_pretrained(tmp_path / "other")
    done = call(
        *("rerank", "run.trec.gz", "--model", "other", "--collection", collection_folder, "--split", "train"),
        *("--depth", "4", "-o", "out.trec"),
    )
    assert done.status == 0, done.err
    reranked = read_run(tmp_path / "out.trec")
    for query_id in ("q3", "q20"):
        assert reranked[query_id].keys() == set(ranked(run[query_id])[:4])
        expected = other.score([queries[query_id]], [[texts[doc_id] for doc_id in reranked[query_id]]])[0]
        assert list(reranked[query_id].values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_an_index_and_its_recall(
    collection_folder: Path, student: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    first = call("retrieve", "student", "--collection", collection_folder, "--depth", "20", "-o", "exact.trec")
    assert first.status == 0, first.err
    done = call(
        *("retrieve", "student", "--collection", f"{collection_folder}/test", "--depth", "20", "-o", "hnsw.trec"),
        *("--index", "hnsw", "--index-option", "ef_search=60", "--check-recall", "5"),
    )
    assert done.status == 0, done.err
    assert "1 of 1 shards are encoded" in done.out
    # A graph of 60 documents searched 60 wide misses nothing.
    assert "recall@10 1.0000, recall@20 1.0000 against exact search on 5 queries." in done.out
    exact, found = read_run(tmp_path / "exact.trec"), read_run(tmp_path / "hnsw.trec")
    for query_id, scores in exact.items():
        assert sorted(found[query_id].values()) == pytest.approx(sorted(scores.values()), abs=1e-5)


def test_queries_without_judgements_are_searched_too(
    collection_folder: Path, student: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    folder = tmp_path / "fresh"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text((collection_folder / "corpus.jsonl").read_text())
    (folder / "queries.new.jsonl").write_text('{"query_id": "a", "text": "river stone"}\n')
    (folder / "qrels.new.tsv").write_text("")
    done = call("retrieve", "student", "--collection", folder, "--split", "new", "--depth", "3", "-o", "new.trec")
    assert done.status == 0, done.err
    assert len(read_run(tmp_path / "new.trec")["a"]) == 3


def test_what_a_run_names_in_vain_is_counted(
    collection_folder: Path, student: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    # The toy test split begins with q32.
    known = "q32 Q0 d1 1 2.0 t\nq32 Q0 d2 2 1.0 t\n"
    (tmp_path / "odd.trec").write_text(known + "q32 Q0 d999 3 0.5 t\nq0 Q0 d1 1 1.0 t\nq999 Q0 d1 1 1.0 t\n")
    done = call("rerank", "odd.trec", "--model", "student", "--collection", collection_folder, "-o", "out.trec")
    assert done.status == 0, done.err
    assert "odd.trec: 1 lines of unknown documents, left out" in done.out
    assert "odd.trec: 2 lines of queries not in the split, left out" in done.out
    assert read_run(tmp_path / "out.trec").keys() == {"q32"}
    assert read_run(tmp_path / "out.trec")["q32"].keys() == {"d1", "d2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retrieve", "student", "--collection", "FOLDER", "--check-recall", "3"], "add --index hnsw"),
        (["retrieve", "student", "--collection", "FOLDER", "--index", "ivf", "--index-option", "m=3"], "ivf has nlist"),
        (["retrieve", "student", "--collection", "FOLDER", "--split", "trial"], "queries.trial.jsonl"),
        (["rerank", "none.trec", "--model", "student", "--collection", "FOLDER"], "none.trec: no such file"),
        (["rerank", "none.trec", "--model", "student"], "give RECIPE RANKER, or RUN --model MODEL --collection REF"),
        (["rerank", "none.trec"], "give RECIPE RANKER, or RUN --model MODEL --collection REF"),
        (["rerank", "other.trec", "--model", "student", "--collection", "FOLDER"], "none of 1 lines names a query"),
        (["rerank", "empty.trec", "--model", "student", "--collection", "FOLDER"], "empty.trec: an empty run"),
        (["rerank", "nan.trec", "--model", "student", "--collection", "FOLDER"], "nan.trec, line 1: score nan"),
        (["rerank", "twice.trec", "--model", "student", "--collection", "FOLDER"], "d1 stands twice for query q32"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, collection_folder: Path, student: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    (tmp_path / "other.trec").write_text("q77 Q0 d1 1 1.0 t\n")
    (tmp_path / "empty.trec").write_text("\n")
    (tmp_path / "nan.trec").write_text("q32 Q0 d1 1 nan t\n")
    (tmp_path / "twice.trec").write_text("q32 Q0 d1 1 2.0 t\nq32 Q0 d1 2 1.0 t\n")
    done = call(*(str(collection_folder) if word == "FOLDER" else word for word in words))
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
