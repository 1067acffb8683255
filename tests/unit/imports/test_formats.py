"""Every format: what its rows become, and what is said about a row that it does not allow."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.artifacts import text_hash
from stillhouse.errors import FormatError
from stillhouse.imports import FORMATS
from stillhouse.imports.convert import Made
from tests.unit.imports.conftest import jsonl, read, rows

Make = Callable[..., Made]

# Ids as they stand in MS MARCO's files; the scores of the second are Zenodo 4068216's kind of numbers.
TRIPLES = "1000094\t5399011\t4239068\n1000094\t5399011\t3891841\n1000084\t7674744\t1346299\n"
SCORED = (
    "10.501993\t-7.2160444\t1000094\t5399011\t4239068\n"
    "10.501994\t3.5\t1000094\t5399011\t3891841\n"
    "7.25\t8.125\t1000084\t7674744\t1346299\n"
)


def test_triples(tmp_path: Path, make: Make) -> None:
    (tmp_path / "qidpidtriples.train.full.2.tsv.gz").write_bytes(gzip.compress(TRIPLES.encode()))
    made = make("triples", tmp_path / "qidpidtriples.train.full.2.tsv.gz")
    assert set(made.files) == {"triples", "candidates"}
    assert read(made, "triples") == TRIPLES.splitlines()
    # The negatives of a query, in the file's order; the positive comes from the qrels.
    assert sorted(read(made, "candidates")) == [
        "1000084 Q0 1346299 1 1 import",
        "1000094 Q0 3891841 2 1 import",
        "1000094 Q0 4239068 1 2 import",
    ]
    assert (made.counts["triples"], made.depth) == (3, 2)


def test_teacher_scores(tmp_path: Path, make: Make) -> None:
    (tmp_path / "scores.tsv").write_text(SCORED)
    made = make("teacher-scores", tmp_path / "scores.tsv")
    assert read(made, "triples") == TRIPLES.splitlines()
    # The positive is scored on each of its lines, rounded anew: it stands once, with the first.
    assert sorted(read(made, "scores")) == [
        "1000084\t1346299\t8.125",
        "1000084\t7674744\t7.25",
        "1000094\t3891841\t3.5",
        "1000094\t4239068\t-7.2160444",
        "1000094\t5399011\t10.501993",
    ]
    assert sorted(read(made, "candidates"))[:2] == [
        "1000084 Q0 1346299 1 8.125 import",  # the teacher prefers the negative here
        "1000084 Q0 7674744 2 7.25 import",
    ]


def test_sbert_hard_negatives(tmp_path: Path, make: Make) -> None:
    # The positive stands among the negatives of some systems, as it does in the published file.
    row = {"qid": 571018, "pos": [7349777], "neg": {"bm25": [11, 12, 13], "tas-b": [21, 11, 7349777], "none": None}}
    made = make("sbert", jsonl(tmp_path / "msmarco-hard-negatives.jsonl", [row, {"qid": 2, "pos": [], "neg": {}}]))
    assert set(made.files) == {"candidates"}
    # The first of each system, 11 and 21, then the second, 12, then the third, 13 and the positive.
    assert [line.split()[2] for line in read(made, "candidates")] == ["11", "21", "12", "7349777", "13"]


def test_sbert_hard_negatives_with_cross_encoder_scores(tmp_path: Path, make: Make) -> None:
    row = {
        "qid": "867436",
        "pos": [{"pid": "5238393", "ce-score": 9.1}],
        "neg": {"bm25": [{"pid": "4", "ce-score": -2.5}], "tas-b": [{"pid": "4", "ce-score": -2.5}, {"pid": "6"}]},
    }
    made = make("sbert", jsonl(tmp_path / "hard.jsonl", [row]))
    assert sorted(read(made, "scores")) == ["867436\t4\t-2.5", "867436\t5238393\t9.1"]
    assert [line.split()[2] for line in read(made, "candidates")] == ["4", "6"]


@pytest.mark.parametrize("name", ["rank.parquet", "rank.run", "rank.run.gz", "lists.parquet"])
def test_rank_distillm(tmp_path: Path, make: Make, name: str) -> None:
    ranked = {"1185869": ["0", "16", "49"], "1185868": ["16", "0"]}
    flat = [(q, d, 1 / (rank + 1), rank) for q, docs in ranked.items() for rank, d in enumerate(docs)]
    if name == "rank.parquet":
        pq.write_table(
            pa.Table.from_pylist([dict(zip(("qid", "docno", "score"), row, strict=False)) for row in flat]),
            tmp_path / name,
        )
    elif name == "lists.parquet":
        table = pa.Table.from_pylist([{"query_id": q, "doc_ids": docs} for q, docs in ranked.items()])
        pq.write_table(table, tmp_path / name)
    else:
        text = "".join(f"{q} Q0 {d} {rank + 1} {score} rankzephyr\n" for q, d, score, rank in flat).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    made = make("rank-distillm", tmp_path / name)
    assert sorted(read(made, "scores")) == sorted(f"{q}\t{d}\t{score:.9g}" for q, d, score, _ in flat)
    order = [tuple(line.split()[:4:2]) for line in read(made, "candidates") if line.startswith("1185869 ")]
    assert order == [("1185869", "0"), ("1185869", "16"), ("1185869", "49")]


RANKGPT = [
    {
        "query": "what is a ferry",
        "query_id": "77",
        "positive_passages": [{"docid": "30", "title": "", "text": "A ferry is a boat."}],
        "retrieved_passages": [
            {"docid": "10", "title": "", "text": "Ferries sail."},
            {"docid": "20", "title": "", "text": "A harbour."},
            {"docid": "30", "title": "", "text": "A ferry is a boat."},
        ],
    },
    {
        "query": "dusk",
        "positive_passages": [{"text": "Dusk follows sunset."}],
        "retrieved_passages": [{"docid": "10", "text": "Ferries sail."}],
    },
]


@pytest.mark.parametrize("answers", [["[3] > [1] > [2]", "[1]"], [[3, 1, 2], [1]], ["3 1 2", "[1] "]])
def test_rankgpt(tmp_path: Path, make: Make, answers: list[object]) -> None:
    permutations = tmp_path / "marco-train-gpt3.5.json"
    permutations.write_text(json.dumps(answers))
    made = make("rankgpt", jsonl(tmp_path / "marco-train.jsonl", RANKGPT), permutations)
    # A query without an id is named by its text, and so is its passage.
    query, doc = "q" + text_hash("dusk")[:16], "d" + text_hash("Dusk follows sunset.")[:16]
    assert sorted(read(made, "scores")) == sorted(
        ["77\t30\t1", "77\t10\t0.5", f"77\t20\t{1 / 3:.9g}", f"{query}\t10\t1"]
    )
    assert sorted(read(made, "qrels")) == sorted(["77\t0\t30\t1", f"{query}\t0\t{doc}\t1"])
    # The candidates keep the first stage's order: BM25 found 10 first.
    assert [line.split()[2] for line in read(made, "candidates") if line.startswith("77 ")] == ["10", "20", "30"]
    assert {row["doc_id"]: row["text"] for row in rows(made, "corpus")}[doc] == "Dusk follows sunset."
    assert {"query_id": "77", "text": "what is a ferry"} in rows(made, "queries")


def test_tevatron_with_scores_in_the_passages(tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]]) -> None:
    scored = copy.deepcopy(rlhn_rows)
    scored[0]["positive_passages"][0]["score"] = 6.5
    scored[0]["negative_passages"][1]["score"] = -1
    made = make("tevatron", jsonl(tmp_path / "t.jsonl", scored))
    assert sorted(read(made, "scores")) == ["fc1d2e\t7#0\t-1", "fc1d2e\t9#0\t6.5"]
    assert {row["doc_id"] for row in rows(made, "corpus")} == {"9#0", "4#1", "7#0", "2#2", "5#0"}


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.arrow"])
def test_tevatron_as_annotated_by_a_teacher(tmp_path: Path, make: Make, name: str) -> None:
    row = {
        "query_id": "3",
        "query": "dusk",
        "passages": [
            {"title": "", "text": "Dusk follows sunset."},
            {"title": "F", "text": "Sail."},
            {"title": "", "text": "x"},
        ],
        "scores": [4.25, -3.5, float("nan")],  # NaN: the teacher gave none
    }
    table = pa.Table.from_pylist([row])
    if name == "t.jsonl":
        jsonl(tmp_path / name, [row])
    elif name == "t.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.OSFile(str(tmp_path / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
    made = make("tevatron", tmp_path / name)
    ids = ["d" + text_hash(text)[:16] for text in ("Dusk follows sunset.", "F\nSail.", "x")]
    assert sorted(read(made, "scores")) == sorted([f"3\t{ids[0]}\t4.25", f"3\t{ids[1]}\t-3.5"])
    assert read(made, "qrels") == [f"3\t0\t{ids[0]}\t1"]
    assert [line.split()[2] for line in read(made, "candidates")] == ids[1:]


@pytest.mark.parametrize("name", ["rlhn.jsonl", "rlhn.parquet"])
def test_rlhn(tmp_path: Path, make: Make, rlhn_rows: list[dict[str, Any]], name: str) -> None:
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rlhn_rows), tmp_path / name)
    else:
        jsonl(tmp_path / name, rlhn_rows)
    made = make("rlhn", tmp_path / name)
    assert set(made.files) == {"corpus", "queries", "qrels", "candidates"}
    assert sorted(read(made, "qrels")) == ["0ab9\t0\t2#2\t1", "0ab9\t0\t5#0\t1", "fc1d2e\t0\t9#0\t1"]
    assert sorted(read(made, "candidates")) == [
        "0ab9 Q0 4#1 1 1 import",
        "fc1d2e Q0 2#2 3 1 import",
        "fc1d2e Q0 4#1 1 3 import",
        "fc1d2e Q0 7#0 2 2 import",
    ]
    assert {"doc_id": "7#0", "title": "Ada Moor", "text": "Ada Moor was born in Caf\u00e9 Row."} in rows(made, "corpus")
    assert (made.counts["queries"], made.counts["documents"], made.depth) == (2, 5, 3)


def passages(kind: str, count: int, score: float) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{kind} {i}",
            "text": f"{kind} text {i}",
            "score": score - i,
            "title_score": 0,
            "passage_id": f"{kind}{i}",
        }
        for i in range(count)
    ]


@pytest.fixture
def nq() -> list[dict[str, Any]]:
    gold = passages("gold", 1, 1000) + passages("other", 2, 18.5)
    question = {"dataset": "nq_train_psgs_w100", "question": "who got the first nobel prize in physics"}
    lists = {"negative_ctxs": passages("random", 150, 0), "hard_negative_ctxs": passages("hard", 120, 17.0)}
    short = {
        "positive_ctxs": passages("gold", 1, 1000),
        "negative_ctxs": [],
        "hard_negative_ctxs": passages("hard", 2, 9),
    }
    return [
        question | {"answers": ["R\u00f6ntgen"], "positive_ctxs": gold} | lists,
        {"question": "b", "answers": []} | short,
    ]


def test_dpr(tmp_path: Path, make: Make, nq: list[dict[str, Any]]) -> None:
    (tmp_path / "biencoder-nq-train.json").write_text(json.dumps(nq, indent=4))
    made = make("dpr", tmp_path / "biencoder-nq-train.json")
    # Numbered from 0, grades as ir_datasets' dpr-w100/natural-questions has them.
    assert sorted(read(made, "qrels")) == ["0\t0\tgold0\t2", "0\t0\tother0\t1", "0\t0\tother1\t1", "1\t0\tgold0\t2"]
    found = [line.split()[2] for line in read(made, "candidates") if line.startswith("0 ")]
    assert found == [f"hard{i}" for i in range(120)]  # BM25's order, of which a recipe takes 19
    assert made.counts["documents"] == 1 + 2 + 120
    assert made.depth == 120


def test_dpr_evaluation_pool(tmp_path: Path, make: Make, nq: list[dict[str, Any]]) -> None:
    (tmp_path / "biencoder-nq-dev.json").write_text(json.dumps(nq))
    made = make("dpr", tmp_path / "biencoder-nq-dev.json", split="dev", pool=True)
    found = [line.split()[2] for line in read(made, "candidates") if line.startswith("0 ")]
    # 3 positives, 100 of BM25, and 97 random ones: 200.
    expected = {"gold0", "other0", "other1"} | {f"hard{i}" for i in range(100)} | {f"random{i}" for i in range(97)}
    assert set(found) == expected
    assert len(found) == len(expected) == 200
    places = [found.index(one) for one in ("gold0", "other0", "other1")]
    assert max(places) > 3, "the labels are not the order"
    assert made.files["candidates"] == "candidates.dev.trec.gz"


BAD: dict[str, list[tuple[object, str]]] = {
    "triples": [("1\t2", "expected 3 ids: query positive negative, got 1\t2"), ("a b\tc\td", "expected 3 ids")],
    "teacher-scores": [
        ("1\t2\t3\t4", "expected 5 columns: positive_score negative_score query positive negative, got 1\t2\t3\t4"),
        ("1.5\thigh\tq\ta\tb", "expected negative_score to be a finite number, got high"),
        ("nan\t1\tq\ta\tb", "expected positive_score to be a finite number, got nan"),
    ],
    "sbert": [
        ("{", "expected a JSON object, got { "),
        ([1], "expected a JSON object, got [1]"),
        ({"qid": 1, "pos": [2]}, "expected a field neg, got the fields qid, pos"),
        ({"qid": 1, "pos": [2], "neg": [3]}, "expected neg to be an object {system: [ids]}, got [3]"),
        ({"qid": 1, "pos": [2], "neg": {"bm25": 3}}, "expected neg.bm25 to be a list, got 3"),
        ({"qid": "a b", "pos": [], "neg": {}}, "expected qid to be an id without white space, got a b"),
        ({"qid": 1, "pos": [{"id": 2}], "neg": {}}, "expected a field pid, got the fields id"),
        ({"qid": 1, "pos": [{"pid": 2, "ce-score": "x"}], "neg": {}}, "pos[].ce-score to be a finite number, got x"),
    ],
    "rank-distillm": [
        ("1 Q0 2 1 0.5", "expected 6 columns: query Q0 document rank score tag, got 1 Q0 2 1 0.5"),
        ("1 Q0 2 1 inf tag", "expected score to be a finite number, got inf"),
        ({"qid": "1", "doc": "2"}, "expected a field docno or doc_id, got the fields qid, doc"),
        ({"query_id": "1", "doc_ids": "2"}, "expected doc_ids to be a list, got 2"),
    ],
    "tevatron": [
        ({"query_id": "1", "query": "q", "positive_passages": []}, "at least one passage in positive_passages, got []"),
        ({"query": " ", "passages": [{"text": "a"}], "scores": [1]}, "expected query to be a text that is not empty"),
        (
            {"query": "q", "passages": [{"text": "a"}], "scores": []},
            "as many scores as passages, and one at least, got 0 for 1",
        ),
        ({"query": "q", "passages": [{"docid": 1}], "scores": [1]}, "expected a field text, got the fields docid"),
        (
            {"query": "q", "passages": [{"text": "a"}], "scores": [True]},
            "expected score to be a finite number, got true",
        ),
        ({"query": "\ud800", "passages": [{"text": "a"}], "scores": [1]}, "query to be text without lone surrogates"),
    ],
    "rlhn": [
        (
            {"query_id": "1", "query": "q", "positive_passages": ["a"], "negative_passages": []},
            "to be an object with text, got a",
        ),
        (
            {"query_id": "1", "positive_passages": [{"text": "a"}], "negative_passages": []},
            "expected a field query, got",
        ),
        (
            {"query_id": "1", "query": "q", "positive_passages": [{"text": ""}]},
            "text to be a text that is not empty, got ",
        ),
    ],
    "dpr": [
        ({"question": "q", "positive_ctxs": []}, "expected at least one passage in positive_ctxs, got []"),
        (
            {"question": "q", "positive_ctxs": [{"text": "a"}], "hard_negative_ctxs": {}},
            "hard_negative_ctxs to be a list",
        ),
        ({"positive_ctxs": [{"text": "a"}]}, "expected a field question, got the fields positive_ctxs"),
    ],
}
GOOD: dict[str, object] = {
    "triples": "1 2 3",
    "teacher-scores": "1 2 q a b",
    "sbert": {"qid": 1, "pos": [2], "neg": {"bm25": [3]}},
    "rank-distillm": "1 Q0 2 1 0.5 tag",
    "tevatron": {"query": "q", "passages": [{"text": "a"}], "scores": [1]},
    "rlhn": {"query": "q", "positive_passages": [{"text": "a"}], "negative_passages": []},
    "dpr": {"question": "q", "positive_ctxs": [{"text": "a"}]},
}


@pytest.mark.parametrize(("name", "bad", "error"), [(name, *one) for name, found in BAD.items() for one in found])
def test_a_malformed_row_is_told_with_file_and_line(
    tmp_path: Path, make: Make, name: str, bad: object, error: str
) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in (GOOD[name], bad)]
    (tmp_path / "file.txt").write_text("\n\n".join(lines) + "\n")
    with pytest.raises(FormatError) as caught:
        make(name, tmp_path / "file.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'file.txt'}:3: expected ")
    assert error in str(caught.value)
    assert not (tmp_path / "made").exists()
    made = make(name, tmp_path / "file.txt", skip_malformed=1)
    assert (made.counts["rows"], made.counts["malformed rows left out"]) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [("[3] > [1]", "[3] > [1]"), ("[3] > [1] > [1]", "[3] > [1] > [1]"), ([3, 1, 4], "[3, 1, 4]"), (None, "null"),
     ("none of these", "none of these")],
)  # fmt: skip
def test_a_permutation_that_is_none_is_told(tmp_path: Path, make: Make, answer: object, shown: str) -> None:
    data, permutations = jsonl(tmp_path / "a.jsonl", RANKGPT[::-1]), tmp_path / "b.json"
    permutations.write_text(json.dumps(["[1]", answer]))
    with pytest.raises(FormatError) as caught:
        make("rankgpt", data, permutations)
    assert str(caught.value) == f"{data}:2: expected a permutation of 1 to 3, got {shown}"
    assert make("rankgpt", data, permutations, skip_malformed=1).counts["queries"] == 1


def test_rankgpt_wants_two_files_of_equal_length(tmp_path: Path, make: Make) -> None:
    data, permutations = jsonl(tmp_path / "a.jsonl", RANKGPT), tmp_path / "b.json"
    with pytest.raises(FormatError, match="rankgpt: 1 files; expected two"):
        make("rankgpt", data)
    for answers, longer, line in ((["[3] > [1] > [2]"], data, 2), (["[3] > [1] > [2]", "[1]", "[1]"], permutations, 1)):
        permutations.write_text(json.dumps(answers))
        with pytest.raises(FormatError) as caught:
            make("rankgpt", data, permutations)
        assert str(caught.value).startswith(f"{longer}:{line}: expected as many permutations as queries")


def test_every_format_is_tested() -> None:
    assert {*BAD, "rankgpt"} == set(FORMATS)
