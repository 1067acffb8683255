"""`stillhouse evaluate --run`: numbers that can be worked out by hand."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QRELS = "q1 0 d1 1\nq1 0 d2 0\nq2 0 d2 2\nq2 0 d3 1\nq3 0 d1 1\n"
# q1: d1 second. q2: d3 (grade 1) first, d2 (grade 2) third. q3 is not there. q9 is not judged.
RUN = """\
q1 Q0 d3 1 9.0 t
q1 Q0 d1 2 8.0 t
q2 Q0 d3 1 3.0 t
q2 Q0 d1 2 2.0 t
q2 Q0 d2 3 1.0 t
q9 Q0 d1 1 1.0 t
"""
RR = {"q1": 1 / 2, "q2": 1.0, "q3": 0.0}
RR_REL2 = {"q1": 0.0, "q2": 1 / 3, "q3": 0.0}
NDCG = {
    "q1": (1 / math.log2(3)) / 1,
    "q2": (1 / math.log2(2) + 2 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3)),
    "q3": 0.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"doc_id": f"d{i}", "text": f"text {i}"}) + "\n" for i in (1, 2, 3))
    )
    (tmp_path / "queries.test.jsonl").write_text(
        "".join(json.dumps({"query_id": f"q{i}", "text": f"query {i}"}) + "\n" for i in (1, 2, 3))
    )
    (tmp_path / "qrels.test.tsv").write_text(QRELS.replace(" ", "\t"))
    (tmp_path / "run.trec").write_text(RUN)
    return tmp_path


def mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def test_means_and_values_per_query(folder: Path, call: Callable[..., Any]) -> None:
    per_query = folder / "values.tsv"
    done = call(
        *("evaluate", "--run", folder / "run.trec", "--collection", folder, "--split", "test", "--json"),
        *("--measures", "nDCG@10 RR@10 RR(rel=2)@10", "--per-query", per_query),
    )
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert {key: found[key] for key in ("collection", "split", "queries", "missing_queries")} == {
        "collection": str(folder),
        "split": "test",
        "queries": 3,
        "missing_queries": 1,
    }
    assert found["measures"] == pytest.approx(
        {"nDCG@10": mean(NDCG), "RR@10": mean(RR), "RR(rel=2)@10": mean(RR_REL2)}, abs=1e-12
    )
    rows = [line.split("\t") for line in per_query.read_text().splitlines()]
    values = {(query, name): float(value) for query, name, value in rows}
    expected = {"nDCG@10": NDCG, "RR@10": RR, "RR(rel=2)@10": RR_REL2}
    assert values == pytest.approx(
        {(query, name): value for name, queries in expected.items() for query, value in queries.items()}, abs=1e-12
    )


def test_what_is_missing_is_told(folder: Path, call: Callable[..., Any]) -> None:
    done = call("evaluate", "--run", folder / "run.trec", "--collection", folder, "--measures", "RR@10")
    assert "1 of 3 judged queries are not in the run; they count 0" in done.err
    assert "1 queries of the run have no judgement" in done.err
    assert done.out == "RR@10\t0.5000\nqueries\t3\n"


def test_a_packed_run_and_a_split_named_in_the_collection(folder: Path, call: Callable[..., Any]) -> None:
    packed = folder / "run.trec.gz"
    packed.write_bytes(gzip.compress(RUN.encode()))
    done = call("evaluate", "--run", packed, "--collection", f"{folder}/test", "--measures", "RR@10", "--json")
    assert json.loads(done.out)["measures"] == {"RR@10": 0.5}


def test_the_level_of_relevance_can_be_given_and_is_named(folder: Path, call: Callable[..., Any]) -> None:
    arguments = ("evaluate", "--run", folder / "run.trec", "--collection", folder, "--measures", "nDCG@10 RR@10")
    done = call(*arguments, "--relevance", "2", "--json")
    measures = json.loads(done.out)["measures"]
    assert measures == pytest.approx({"nDCG@10": mean(NDCG), "RR(rel=2)@10": mean(RR_REL2)}, abs=1e-12)
    assert "RR@10\t" in call(*arguments).out
    assert call(*arguments, "--relevance", "0").status == 2


def test_where_a_collection_counts_from_another_grade_plain_names_are_pointed_at(
    folder: Path, call: Callable[..., Any]
) -> None:
    known = folder.parent / "msmarco_dl19"
    folder.rename(known)
    arguments = ("evaluate", "--run", known / "run.trec", "--collection", known, "--measures")
    assert "RR@10 counts grade 1 as relevant" in call(*arguments, "RR@10 nDCG@10").err
    assert "counts grade 1" not in call(*arguments, "RR(rel=2)@10 nDCG@10").err


def test_results_on_unknown_documents_are_counted(folder: Path, call: Callable[..., Any]) -> None:
    (folder / "run.trec").write_text(RUN.replace("q2 Q0 d1", "q2 Q0 elsewhere"))
    done = call("evaluate", "--run", folder / "run.trec", "--collection", folder, "--measures", "RR@10")
    assert "1 results name documents that are not in the collection" in done.err


@pytest.mark.parametrize(
    ("change", "arguments", "expected"),
    [
        (("qrels.test.tsv", QRELS + "q1 0 d1 0\n"), [], "query q1, document d1 is judged twice"),
        (("run.trec", RUN + "q1 Q0 d1 3 1.0 t\n"), [], "document d1 stands twice for query q1"),
        (("run.trec", "q7 Q0 d1 1 1.0 t\n"), [], "the run and the qrels have no query in common"),
        (("run.trec", "q1 Q0 d1 1 nan t\n"), [], "run.trec, line 1: score nan is not finite"),
        (("run.trec", ""), [], "an empty run"),
        (("run.trec", "q1 d1 1.0\n"), [], "run.trec, line 1: "),
        (("run.trec", RUN), ["--measures", "nDGC@10"], "nDGC@10"),
        (("run.trec", RUN), ["--split", "dev"], "queries.dev.jsonl"),
    ],
)
def test_bad_input_is_one_line(
    change: tuple[str, str], arguments: list[str], expected: str, folder: Path, call: Callable[..., Any]
) -> None:
    (folder / change[0]).write_text(change[1])
    done = call("evaluate", "--run", folder / "run.trec", "--collection", folder, *arguments)
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
