"""`stillhouse scores` over a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillhouse.artifacts import text_hash
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.generation import add_missing
from stillhouse.scores.store import ScoreStore

IDENTITY = {"ranker": "file", "name": "toy", "scale": "logit"}
SCORES = {("q1", "d1"): 2.5, ("q1", "d2"): -1.0, ("q2", "d1"): 0.125}


def fill(root: str | Path, scores: dict[tuple[str, str], float]) -> ScoreStore:
    store = ScoreStore(root, IDENTITY, partitions=2)
    store.create()
    rows = [
        {
            "query_hash": text_hash(f"text of {query}"),
            "doc_hash": text_hash(f"text of {doc}"),
            "query_id": query,
            "doc_id": doc,
            "score": score,
            "num_tokens": 3,
            "truncated": False,
        }
        for (query, doc), score in scores.items()
    ]
    add_missing(store, pa.Table.from_pylist(rows, schema=SCORE_SCHEMA))
    store.commit()
    return store


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return fill(tmp_path / "scores", SCORES)


def test_list_and_show(store: ScoreStore, call: Callable[..., Any]) -> None:
    root = store.path.parent
    row = call("scores", "list", "--store", root).out.splitlines()[1].split()
    assert row[:4] == [store.key, "toy", "logit", "3"]
    shown = json.loads(call("scores", "show", store.key[:4], "--store", root).out)
    assert (shown["pairs"], shown["identity"], shown["digest"]) == (3, IDENTITY, store.digest())


def test_export_gives_a_run(store: ScoreStore, call: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "teacher.trec"
    assert call("scores", "export", store.key, file, "--store", store.path.parent).status == 0
    rows = [line.split() for line in file.read_text().splitlines()]
    assert {(query, doc): float(score) for query, _, doc, _, score, _ in rows} == SCORES
    assert [(query, rank) for query, _, doc, rank, _, _ in rows if doc == "d2"] == [("q1", "2")]
    table = tmp_path / "teacher.tsv"
    call("scores", "export", store.key, table, "--store", store.path.parent, "--format", "tsv")
    assert "q2\td1\t0.125" in table.read_text().splitlines()


def test_verify_tells_a_damaged_file(store: ScoreStore, call: Callable[..., Any]) -> None:
    root = store.path.parent
    assert call("scores", "verify", store.key, "--store", root).status == 0
    damaged = store.files()[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    done = call("scores", "verify", store.key, "--store", root)
    assert done.status == 1
    assert f"corrupt, set aside: {damaged.relative_to(store.path)}" in done.out
    assert not damaged.exists()


def test_merge_adds_what_is_new(store: ScoreStore, call: Callable[..., Any], tmp_path: Path) -> None:
    root = store.path.parent
    other = fill(tmp_path / "other", {("q1", "d1"): 2.5, ("q3", "d3"): 7.0}).path.parent
    assert call("scores", "merge", store.key, other, "--store", root).out == "1 pairs were new\n"
    assert len(ScoreStore.open(store.path)) == 4
    assert call("scores", "merge", store.key, root, "--store", root).status == 1


def test_gc_keeps_every_score(store: ScoreStore, call: Callable[..., Any]) -> None:
    digest = store.digest()
    (store.folder(0) / "gen=x-0.parquet.corrupt").parent.mkdir(exist_ok=True)
    (store.folder(0) / "gen=x-0.parquet.corrupt").write_text("set aside")
    done = call("scores", "gc", store.key, "--store", store.path.parent)
    assert "1 corrupt files removed" in done.out
    assert ScoreStore.open(store.path).digest() == digest


def test_import_uses_the_ids_of_the_collection(
    call: Callable[..., Any], tmp_path: Path, collection_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("new", "mine.yaml", "--collection", collection_folder)
    (tmp_path / "public.tsv").write_text("q0\td0\t1.5\nq0\td1\t0.5\nq0\tnobody\t9\n")
    done = call("scores", "import", "mine.yaml", "public.tsv")
    assert done.status == 0, done.err
    assert done.out.startswith("2 pairs are in store ")
    assert "1 lines name a query or document" in done.out
    row = call("scores", "list").out.splitlines()[1].split()
    assert row[1:4] == ["public.tsv", "logit", "2"]


def test_every_verb_takes_a_uri(call: Callable[..., Any], tmp_path: Path) -> None:
    root = f"memory://{tmp_path.name}/scores"
    store = fill(root, SCORES)
    assert call("scores", "list", "--store", root).out.splitlines()[1].split()[:4] == [store.key, "toy", "logit", "3"]
    assert json.loads(call("scores", "show", store.key, "--store", root).out)["path"] == str(store.path)
    assert call("scores", "verify", store.key, "--store", root).status == 0
    assert call("scores", "export", store.key, tmp_path / "run", "--store", root).out.startswith("3 scores are in ")
    other = fill(tmp_path / "other", {("q1", "d1"): 2.5, ("q3", "d3"): 7.0}).path.parent
    assert call("scores", "merge", store.key, other, "--store", root).out == "1 pairs were new\n"
    assert call("scores", "merge", store.key, root, "--store", root).status == 1
    assert "0 partitions joined" in call("scores", "gc", store.key, "--store", root).out
    assert len(ScoreStore.open(store.path)) == 4
    wrong = call("scores", "list", "--store", "nowhere://bucket/scores")
    assert wrong.status == 1
    assert "nowhere://bucket/scores: no file system opens it" in wrong.err
    assert wrong.err.count("\n") == 1
