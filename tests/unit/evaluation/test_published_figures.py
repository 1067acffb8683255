"""BM25 and the runs of TREC DL 2019 on real collections, where the reader has them: STILLHOUSE_DATA/<name>."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillhouse.candidates import candidates_for
from stillhouse.cli import main
from stillhouse.collection import materialise
from stillhouse.collection.judgements import relevance_of, source_of_split
from stillhouse.collection.local_data import find
from stillhouse.errors import CollectionError
from stillhouse.evaluation.measures import at_relevance, means, named_qrels, per_query
from stillhouse.evaluation.trec import write_run
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec

# Measured for these files by another program: nDCG@10, RR@10, R@100 of the first 1000 documents of BM25 (Lucene, k1
# 1.2, b 0.75, and 0.9, 0.4 for MS MARCO; English stems and stop words, title and text).
FIGURES = {
    "scifact": (0.6791, 0.6431, 0.9127),
    "cranfield": (0.4246, 0.8102, 0.7494),
    "cisi": (0.3957, 0.6457, 0.4481),
    "vaswani": (0.4362, 0.6900, 0.6034),
    "med": (0.6986, 0.9075, 0.7900),
    "msmarco_dl19": (0.4533, 0.6387, 0.6965),
    "medquad": (0.6364, 0.5558, 0.9823),
}
MEASURES = ("nDCG@10", "RR@10", "R@100")


def folder(name: str) -> Path:
    try:
        return find(f"$STILLHOUSE_DATA/{name}")
    except CollectionError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", FIGURES)
def test_bm25_has_its_known_quality(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ref = f"{folder(name)}/test"
    collection = materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, tmp_path)
    k1, b = (0.9, 0.4) if name == "msmarco_dl19" else (1.2, 0.75)
    candidates = candidates_for(CandidatesSpec(depth=1000, k1=k1, b=b), collection, "test", tmp_path)
    measures = at_relevance(MEASURES, relevance_of(source_of_split(ref, "test")))
    run = candidates.run(collection, "test")
    found = means(per_query(run, named_qrels(collection, "test"), measures))
    assert list(found.values()) == pytest.approx(FIGURES[name], abs=5e-4)
    # The command on the same run finds the same: no query of the split is left out on the way.
    write_run(tmp_path / "bm25.trec", run, "bm25")
    names = " ".join(measures)
    arguments = ["--run", str(tmp_path / "bm25.trec"), "--collection", ref, "--measures", names, "--json"]
    assert main(["evaluate", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measures"] == pytest.approx(found, abs=1e-7)


def test_the_level_of_relevance_is_the_collections() -> None:
    assert relevance_of(source_of_split(str(folder("msmarco_dl19")), "test")) == 2
    assert relevance_of(source_of_split(str(folder("scifact")), "test")) == 1
    # What ir_datasets says of MS MARCO (1), TREC DL (2) and BEIR (nothing).
    for ref, level in [
        ("msmarco-passage/dev/small", 1),
        ("msmarco-passage/trec-dl-2019/judged", 2),
        ("msmarco-document/trec-dl-2019/judged", 1),
        ("beir/scifact/test", 1),
    ]:
        assert relevance_of(source_of_split(ref, "test")) == level


def unpacked(path: Path, target: Path) -> Path:
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target


def of_ir_measures(qrels: Path, run: Path, measures: str) -> Iterator[tuple[str, str, float]]:
    command = [sys.executable, "-m", "ir_measures", "-q", "-p", "17", str(qrels), str(run), *measures.split()]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        query, name, value = line.split("\t")
        yield query, name, float(value)


@pytest.mark.parametrize("stem", ["anserini-bm25-top100", "colbertv2-top500", "pyterrier-bm25-top1000"])
def test_dl19_runs_have_the_values_of_the_ir_measures_command(
    stem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = folder("msmarco_dl19"), "nDCG@10 RR(rel=2)@10 R(rel=2)@100"
    run = data / f"run.{stem}.judged-only.trec.gz"
    values = tmp_path / "values.tsv"
    arguments = ["--run", str(run), "--collection", str(data), "--measures", "nDCG@10 RR@10 R@100"]
    assert main(["evaluate", *arguments, "--relevance", "2", "--json", "--per-query", str(values)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["queries"], told["missing_queries"], told["split"]) == (43, 0, "test")
    assert list(told["measures"]) == names.split()
    qrels = unpacked(data / "qrels.test.tsv.gz", tmp_path / "qrels")
    theirs = list(of_ir_measures(qrels, unpacked(run, tmp_path / "run"), names))
    # Equal but for the order in which 43 numbers are added.
    assert {name: value for query, name, value in theirs if query == "all"} == pytest.approx(
        told["measures"], abs=1e-14
    )
    rows = [line.split("\t") for line in values.read_text().splitlines()]
    ours = {(query, name): float(value) for query, name, value in rows}
    assert {(query, name): value for query, name, value in theirs if query != "all"} == pytest.approx(
        ours,
        abs=1e-16,  # the command prints 17 places
    )
    assert len(ours) == 3 * 43
