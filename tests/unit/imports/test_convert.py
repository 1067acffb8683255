"""What rows say together: contradictions, unknown ids, texts without ids; and the folder as a whole."""

from __future__ import annotations

import copy
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.artifacts import text_hash
from stillhouse.collection import Collection, materialise
from stillhouse.errors import FormatError
from stillhouse.imports.convert import Made
from stillhouse.recipe.tree import CollectionSpec
from tests.conftest import write_folder
from tests.unit.imports.conftest import jsonl, read, rows

Make = Callable[..., Made]


@pytest.fixture
def toy(tmp_path: Path) -> Collection:
    """The collection that ids are looked up in, as the command opens it."""
    ref = f"{write_folder(tmp_path / 'toy')}/train"
    return materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, tmp_path)


def test_two_scores_of_a_pair_are_told_with_both_lines(tmp_path: Path, make: Make) -> None:
    (tmp_path / "a.tsv").write_text("8.5\t1\tq\ta\tb\n8.5004\t2\tq\ta\tc\n")
    (tmp_path / "b.tsv").write_text("1\t2\tx\ty\tz\n\n8.6\t2\tq\ta\tc\n")
    with pytest.raises(FormatError) as caught:
        make("teacher-scores", tmp_path / "a.tsv", tmp_path / "b.tsv")
    a, b = tmp_path / "a.tsv", tmp_path / "b.tsv"
    assert str(caught.value) == (
        f"{b}:3: expected one score of query q, document a, got 8.6 after 8.5 at {a}:1; keep one"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv"], "nothing is left behind"


def test_two_texts_of_an_id_are_told_with_both_lines(
    tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]]
) -> None:
    other = copy.deepcopy(rlhn_rows)
    other[1]["negative_passages"][0]["text"] = "Another ferry."
    path = jsonl(tmp_path / "r.jsonl", other)
    with pytest.raises(FormatError) as caught:
        make("rlhn", path)
    assert str(caught.value) == (
        f"{path}:2: expected document 4#1 to have one text, got another than at {path}:1; "
        "--by-text names documents by their texts instead"
    )
    made = make("rlhn", path, by_text=True)
    texts = {row["doc_id"]: row["text"] for row in rows(made, "corpus")}
    assert len(texts) == 6
    assert texts["d" + text_hash("Ferries\nAnother ferry.")[:16]] == "Another ferry."
    assert {line.split()[0] for line in read(made, "qrels")} == {
        "q" + text_hash(row["query"])[:16] for row in rlhn_rows
    }


def test_a_passage_relabelled_in_a_later_row_is_relevant(
    tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]]
) -> None:
    again = copy.deepcopy(rlhn_rows[0])
    again["positive_passages"] = again["negative_passages"][:1]  # 4#1, a negative before
    again["negative_passages"] = []
    made = make("rlhn", jsonl(tmp_path / "r.jsonl", [*rlhn_rows, again]))
    assert sorted(line for line in read(made, "qrels") if line.startswith("fc1d2e")) == [
        "fc1d2e\t0\t4#1\t1",
        "fc1d2e\t0\t9#0\t1",
    ]


def test_ids_that_a_collection_does_not_have_are_refused_or_left_out(
    tmp_path: Path, make: Make, toy: Collection
) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("q0\td0\td1\nq0\td0\tnone\nq99\td0\td1\nq1\td1\td2\n")
    with pytest.raises(FormatError) as caught:
        make("triples", path, collection=toy)
    # The document of the second line, and both pairs of the third.
    assert str(caught.value) == (
        f"{path}:2: document 'none' is not in the collection, nor are others: 3 pairs in all; "
        "--allow-missing leaves them out"
    )
    made = make("triples", path, collection=toy, allow_missing=True)
    assert read(made, "triples") == ["q0\td0\td1", "q1\td1\td2"]
    assert made.counts["pairs not in the collection, left out"] == 3
    path.write_text("x\td0\td1\n")
    with pytest.raises(FormatError, match="no pair of it is in the collection; check the ids"):
        make("triples", path, collection=toy, allow_missing=True, folder="none")


def test_texts_find_their_ids_in_a_collection(tmp_path: Path, make: Make, toy: Collection) -> None:
    queries, docs = toy.splits["train"].queries, toy.docs
    row = {
        "query_id": "q3",  # a number of the annotated file that means another query here
        "query": queries.text(queries.row_of["q7"]),
        "passages": [{"title": "", "text": docs.text(docs.row_of[doc]) + " "} for doc in ("d7", "d9")],
        "scores": [2.5, -1.5],
    }
    made = make("tevatron", jsonl(tmp_path / "t.jsonl", [row]), collection=toy)
    assert set(made.files) == {"candidates", "scores"}, "the collection is there already"
    assert sorted(read(made, "scores")) == ["q7\td7\t2.5", "q7\td9\t-1.5"]
    row["query"] = "a text that nobody has"
    made = make("tevatron", jsonl(tmp_path / "t.jsonl", [row]), collection=toy, folder="other")
    assert sorted(read(made, "scores")) == ["q3\td7\t2.5", "q3\td9\t-1.5"]
    assert made.counts["queries taken by their id although the collection has another text"] == 1


def test_the_same_files_make_the_same_bytes_and_a_folder_is_never_written_over(
    tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]]
) -> None:
    path = jsonl(tmp_path / "r.jsonl", rlhn_rows)
    one, two = make("rlhn", path, folder="one"), make("rlhn", path, folder="two")
    for name in sorted(one.files.values()):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    facts = json.loads((one.folder / "done.json").read_text())
    assert (facts["format"], facts["sources"][0]["name"]) == ("rlhn", "r.jsonl")
    with pytest.raises(FormatError, match="one: is there already; name another folder, or remove it"):
        make("rlhn", path, folder="one")


def test_what_makes_nothing_is_an_error(tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]]) -> None:
    (tmp_path / "empty.tsv").write_text("\n")
    with pytest.raises(FormatError, match=r"empty\.tsv: has no rows"):
        make("triples", tmp_path / "empty.tsv")
    with pytest.raises(FormatError, match="rlhn: has no evaluation pool; leave --pool out"):
        make("rlhn", jsonl(tmp_path / "r.jsonl", rlhn_rows), pool=True)
    with pytest.raises(FormatError, match="--split a/b: expected letters, digits"):
        make("rlhn", tmp_path / "r.jsonl", split="a/b")
    (tmp_path / "p.json").write_text('["1"]')
    row = {"query": "q", "positive_passages": [], "retrieved_passages": [{"docid": 1, "text": "a"}]}
    with pytest.raises(FormatError, match="no row has a positive; a collection needs some"):
        make("rankgpt", jsonl(tmp_path / "q.jsonl", [row]), tmp_path / "p.json")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_memory_holds_a_part_of_the_file_only(tmp_path: Path, make: Make, name: str) -> None:
    """16 MB of text, of which a corpus in memory would hold all: one of 64 parts is a quarter of a megabyte."""
    letters = "abcdefghij" * 1600
    found = (
        {
            "question": f"question {number}",
            "positive_ctxs": [{"passage_id": f"p{number}", "text": f"{number} {letters}"}],
            "hard_negative_ctxs": [],
        }
        for number in range(1000)
    )
    path = tmp_path / name
    with path.open("w") as stream:
        for number, row in enumerate(found):
            before = "" if name == "rows.jsonl" else ",\n" if number else "["
            stream.write(before + json.dumps(row) + "\n")
        stream.write("]" if name == "rows.json" else "")
    tracemalloc.start()
    made = make("dpr", path)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.counts["documents"] == 1000
    assert highest < path.stat().st_size / 4
