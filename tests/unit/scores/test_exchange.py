"""Score files of the field, out and in."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.scores.exchange import export_run, export_tsv, import_scores
from stillhouse.scores.store import ScoreStore

Make = Callable[..., Any]


def known(store: ScoreStore, toy: Collection, query_id: str, doc_id: str) -> float:
    """The stored score of a pair of ids."""
    for split in toy.splits.values():
        if query_id in split.queries.row_of:
            query_hash = split.queries.hashes[split.queries.row_of[query_id]]
            return float(store.lookup([query_hash], [toy.docs.hashes[toy.docs.row_of[doc_id]]])[0])
    raise KeyError(query_id)


def test_a_run_is_ranked_best_first_with_ties_by_document(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, [("q1", "b", 0.5), ("q1", "a", 0.5), ("q1", "c", 2.25), ("q2", "a", -1e-7)], partitions=1)
    assert export_run(store, tmp_path / "run.trec", tag="t") == 4
    assert sorted((tmp_path / "run.trec").read_text().splitlines()) == [
        "q1 Q0 a 2 0.5 t",
        "q1 Q0 b 3 0.5 t",
        "q1 Q0 c 1 2.25 t",
        "q2 Q0 a 1 -1.00000001e-07 t",
    ]
    assert export_run(store, tmp_path / "run.trec.gz", tag="t") == 4
    assert gzip.decompress((tmp_path / "run.trec.gz").read_bytes()) == (tmp_path / "run.trec").read_bytes()


@pytest.mark.parametrize("export", [export_run, export_tsv])
@pytest.mark.parametrize("name", ["scores.txt", "scores.txt.gz"])
def test_what_was_exported_comes_in_with_the_same_bits(
    tmp_path: Path, toy: Collection, export: Callable[..., int], name: str
) -> None:
    rng = np.random.default_rng(4)
    train = toy.splits["train"].queries
    lines = [f"{q}\t{d}\t{rng.normal() * 7!r}\n" for q in train.ids for d in toy.docs.ids[:9]]
    (tmp_path / "made.tsv").write_text("".join(lines))
    first = import_scores(tmp_path / "made.tsv", tmp_path / "one", toy, partitions=5)
    assert (first.added, first.unknown) == (len(lines), 0)
    query, doc, score = lines[20].split()
    assert known(first.store, toy, query, doc) == np.float32(float(score))
    export(first.store, tmp_path / name)
    second = import_scores(tmp_path / name, tmp_path / "two", toy)
    assert second.store.digest() == first.store.digest()
    assert second.store.key != first.store.key


def test_positive_and_negative_columns_become_two_pairs(tmp_path: Path, toy: Collection) -> None:
    # As published with Hofstaetter et al. 2020: the positive stands on each of its lines, rounded anew.
    (tmp_path / "t.tsv").write_text(
        "8.5\t-2.25\tq0\td0\td5\n8.5002\t1\tq0\td0\td6\n3\t4\tq24\td1\td2\n1\t2\tqx\td0\td1\n"
    )
    found = import_scores(tmp_path / "t.tsv", tmp_path, toy, scale="logit")
    assert (found.added, found.unknown) == (5, 2)
    scores = [known(found.store, toy, "q0", doc) for doc in ("d0", "d5", "d6", "d7")]
    np.testing.assert_array_equal(scores, [8.5, -2.25, 1.0, np.nan])
    assert known(found.store, toy, "q24", "d2") == 4  # a query of another split


def test_the_same_file_again_adds_nothing_and_another_is_another_teacher(tmp_path: Path, toy: Collection) -> None:
    (tmp_path / "a.tsv").write_text("q0 d0 1\n")
    (tmp_path / "b.tsv").write_text("q0 d0 2\n")
    first = import_scores(tmp_path / "a.tsv", tmp_path, toy, scale="grade")
    again = import_scores(tmp_path / "a.tsv", tmp_path, toy, scale="grade")
    assert (first.added, again.added, again.store.key) == (1, 0, first.store.key)
    assert ScoreStore.open(first.store.path).scale == "grade"
    assert import_scores(tmp_path / "b.tsv", tmp_path, toy, scale="grade").store.key != first.store.key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q0 d0 1\nq0 d1 high\n", r"line 2: 'q0 d1 high' is not a line of scores"),
        ("q0 d0 1\nq0 d1\n", r"line 2: 'q0 d1' is not"),
        ("q0 d0 1\nq0 d1 nan\n", r"line 2: .* not finite"),
        ("q0 d0 1\nq0 d0 1.5\n", r"query q0, document d0 has two scores, 1 and 1.5"),
        ("q0 d0 1 2\n", r"line 1: 4 columns; expected 3 \(tsv\), 6 \(TREC run\) or 5"),
        ("q0 nothing 1\n", r"none of its pairs is in the collection"),
        ("", r"none of its pairs is in the collection"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, toy: Collection, text: str, message: str) -> None:
    (tmp_path / "bad.tsv").write_text(text)
    with pytest.raises(StoreError, match=rf"bad\.tsv.*{message}"):
        import_scores(tmp_path / "bad.tsv", tmp_path / "stores", toy)
    assert not (tmp_path / "stores").exists()


def test_many_parts_hold_what_one_does_and_a_contradiction_in_the_last_leaves_no_store(
    tmp_path: Path, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(7)
    queries = toy.splits["train"].queries.ids
    # Each pair twice, far apart and rounded otherwise: of both the first line counts.
    lines = [(q, d, float(rng.normal())) for q in queries for d in toy.docs.ids]
    text = "".join(f"{q} {d} {score:.6f}\n" for q, d, score in [*lines, *((q, d, s + 1e-5) for q, d, s in lines)])
    (tmp_path / "twice.tsv").write_text(text)
    one = import_scores(tmp_path / "twice.tsv", tmp_path / "one", toy, partitions=2)
    monkeypatch.setattr("stillhouse.scores.exchange._BYTES_PER_PART", 100)
    monkeypatch.setattr("stillhouse.scores.aside._BUFFERED", 3)
    many = import_scores(tmp_path / "twice.tsv", tmp_path / "many", toy, partitions=2)
    assert one.added == many.added == len(lines)
    assert many.store.digest() == one.store.digest()
    assert len(many.store.files()) > len(one.store.files())
    query, doc, score = lines[-1]
    assert known(many.store, toy, query, doc) == np.float32(f"{score:.6f}")
    table = pa.concat_tables([many.store.table(number) for number in range(2)])
    assert {(row["query_id"], row["doc_id"]) for row in table.to_pylist()} == {(q, d) for q, d, _ in lines}
    (tmp_path / "twice.tsv").write_text(text + f"{query} {doc} {score + 1}\n")
    with pytest.raises(StoreError, match=rf"query {query}, document {doc} has two scores"):
        import_scores(tmp_path / "twice.tsv", tmp_path / "bad", toy, partitions=2)
    assert not (tmp_path / "bad").exists()


def test_files_that_cannot_be_read_are_store_errors(tmp_path: Path, toy: Collection) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        import_scores(tmp_path / "absent.tsv", tmp_path, toy)
    (tmp_path / "half.tsv.gz").write_bytes(gzip.compress(b"q0 d0 1\n" * 100)[:-20])
    with pytest.raises(StoreError, match="cannot be read to its end"):
        import_scores(tmp_path / "half.tsv.gz", tmp_path, toy)
    (tmp_path / "latin.tsv").write_bytes(b"q0 d\xe9 1\n")
    with pytest.raises(StoreError, match="cannot be read to its end"):
        import_scores(tmp_path / "latin.tsv", tmp_path, toy)
