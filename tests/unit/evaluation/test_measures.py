from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.errors import CollectionError, RecipeError
from stillhouse.evaluation.measures import means, parse_measures, per_query
from stillhouse.evaluation.trec import write_run


def test_values_by_hand() -> None:
    qrels = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"z": 1}}
    run = {"q1": {"c": 3.0, "a": 2.0, "b": 1.0}, "q2": {"y": 1.0}}
    values = per_query(run, qrels, ["nDCG@10", "RR@10", "RR(rel=2)@10", "R@2", "P@1"])
    # Linear gains, discount log2(1 + rank): 2/log2(3) + 1/log2(4) over the ideal 2/log2(2) + 1/log2(3).
    ndcg = (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3))
    assert values["nDCG@10"]["q1"] == pytest.approx(ndcg, abs=1e-9)
    assert values["RR@10"] == {"q1": 0.5, "q2": 0.0}
    assert values["RR(rel=2)@10"]["q1"] == 0.5
    assert values["R@2"]["q1"] == 0.5
    assert values["P@1"]["q1"] == 0.0
    assert means(values)["nDCG@10"] == pytest.approx(ndcg / 2, abs=1e-9)


def test_queries_without_results_count_and_unjudged_queries_do_not() -> None:
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 0}}
    values = per_query({"q1": {"a": 1.0}, "other": {"a": 1.0}}, qrels, ["nDCG@10", "RR@10", "R@30"])
    for measure in values:
        assert values[measure] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
        assert list(values[measure]) == ["q1", "q2", "q3"]
    assert means(values)["R@30"] == pytest.approx(1 / 3)


def test_ties_are_broken_by_descending_document_id() -> None:
    run = {"q": {"a": 1.0, "b": 1.0}}
    assert per_query(run, {"q": {"a": 1}}, ["RR", "nDCG@1"]) == {"RR": {"q": 0.5}, "nDCG@1": {"q": 0.0}}
    assert per_query(run, {"q": {"b": 1}}, ["RR", "nDCG@1"]) == {"RR": {"q": 1.0}, "nDCG@1": {"q": 1.0}}


def test_equals_the_ir_measures_command_on_the_same_files(tmp_path: Path) -> None:
    generator = random.Random(0)
    qrels = {f"q{q}": {f"d{generator.randrange(40)}": generator.randrange(4) for _ in range(8)} for q in range(30)}
    # Scores in steps of 0.1 tie often; three judged queries have no results.
    run = {
        f"q{q}": {f"d{doc}": generator.randrange(10) / 10 for doc in generator.sample(range(40), 20)}
        for q in range(3, 33)
    }
    names = ["nDCG@10", "RR@10", "RR(rel=2)@10", "AP(rel=2)", "R@20", "NumRet"]
    write_run(tmp_path / "run.trec", run, "t")
    lines = [f"{query} 0 {doc} {grade}" for query, docs in qrels.items() for doc, grade in docs.items()]
    (tmp_path / "qrels").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "ir_measures", "qrels", "run.trec", *names, "-q", "-o", "jsonl"]
    output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    values = per_query(run, qrels, names)
    ours = {(query, name): value for name, queries in values.items() for query, value in queries.items()}
    ours |= {("all", name): value for name, value in means(values).items()}
    theirs = {(row["query_id"], row["measure"]): row["value"] for row in map(json.loads, output.splitlines())}
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_two_names_of_one_measure_both_have_values() -> None:
    values = per_query({"q": {"a": 1.0}}, {"q": {"a": 1}}, ["RR@10", "MRR@10"])
    assert values == {"RR@10": {"q": 1.0}, "MRR@10": {"q": 1.0}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nDGC@10", "measure 'nDGC@10': measure not found: nDGC; expected an ir_measures name"),
        ("nDCG@ten", "measure 'nDCG@ten': not understood"),
        ("R", "measure 'R': cutoff is missing"),
        ("nDCG(x=2)@10", "unsupported params found"),
        ("RR@0", "measure 'RR@0': the cutoff must be at least 1"),
    ],
)
def test_a_measure_that_cannot_be_is_one_line(name: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_measures(["nDCG@10", name])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(CollectionError, match="no query has a judgement"):
        per_query({"q": {"a": 1.0}}, {}, ["nDCG@10"])
    with pytest.raises(CollectionError, match="query q, document a: the score is NaN"):
        per_query({"q": {"a": math.nan}}, {"q": {"a": 1}}, ["nDCG@10"])
    with pytest.raises(RecipeError, match="none given"):
        per_query({"q": {"a": 1.0}}, {"q": {"a": 1}}, [])
