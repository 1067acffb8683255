"""A suite over two toy collections: values against `stillhouse evaluate`, averages and tests by hand, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ir_datasets
import pytest
from scipy import stats

from stillhouse.cli import main
from stillhouse.errors import RecipeError
from stillhouse.evaluation.per_query import read_per_query
from stillhouse.evaluation.suite import load_suite, make_suite, with_depth
from stillhouse.evaluation.suite_result import CollectionResult, suite_result
from stillhouse.rankers import Ranker
from stillhouse.recipe import shipped_files
from tests.conftest import write_folder

SUITE = """\
name: toys
measures: [nDCG@10, RR@10]
candidates: {depth: 12}
collections:
  - FOLDER
  - {collection: FOLDER, name: dev, split: dev, relevance: 2}
"""


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("suite")
    folder = write_folder(place / "toy", num_docs=40)
    qrels = folder / "qrels.dev.tsv"
    lines = qrels.read_text().splitlines()
    # Relevant from grade 2 on: every other query has none such.
    qrels.write_text("".join(f"{line[:-1]}{1 + number % 2}\n" for number, line in enumerate(lines)))
    (place / "toys.yaml").write_text(SUITE.replace("FOLDER", str(folder)))
    return place / "toys.yaml"


@pytest.fixture(scope="module")
def models(suite_file: Path, dual_encoder: Ranker, cross_encoder: Ranker) -> list[str]:
    for name, ranker in (("dual", dual_encoder), ("cross", cross_encoder)):
        ranker.save_pretrained(suite_file.parent / name)
    return [str(suite_file.parent / name) for name in ("dual", "cross")]


def test_a_suite_from_file_to_tables_and_again(
    suite_file: Path, models: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = suite_file.parent
    monkeypatch.setenv("STILLHOUSE_HOME", str(place / "home"))
    command = ["suite", str(suite_file), "--model", models[0], "--model", models[1], "-o", str(place / "out")]
    assert main(command) == 0, capsys.readouterr().err
    capsys.readouterr()
    found = json.loads((place / "out" / "suite.json").read_text())
    one, dev = found["collections"]
    assert (one["relevance"], dev["relevance"], one["name"], dev["name"]) == (1, 2, "toy", "dev")
    assert found["systems"] == ["first stage", "dual", "cross"]
    assert set(dev["systems"]["dual"]) == {"nDCG@10", "RR(rel=2)@10"}
    for entry in (one, dev):
        for system, measures in entry["systems"].items():
            name = f"{entry['name']}.{system.replace(' ', '-')}.trec.gz"
            (run,) = (place / "out" / "runs").glob(name)
            arguments = ["--run", str(run), "--collection", entry["collection"], "--split", entry["split"]]
            assert main(["evaluate", *arguments, "--measures", " ".join(measures), "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["measures"] == pytest.approx(measures)
    for measure, key in (("nDCG@10", "nDCG@10"), ("RR@10", "RR(rel=2)@10")):
        mean = (one["systems"]["cross"][measure] + dev["systems"]["cross"][key]) / 2
        assert found["average"][measure]["cross"] == pytest.approx(mean)
    # Two rankers against the first stage and one against the other, on two collections.
    assert len(found["comparisons"]) == 6
    values = read_per_query(place / "out" / "per_query.parquet")
    test = next(
        row for row in found["comparisons"] if (row["collection"], row["a"], row["b"]) == ("dev", "cross", "dual")
    )
    a, b = (list(values[name, "dev/dev"]["nDCG@10"].values()) for name in ("cross", "dual"))
    assert test["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert min(row["p_holm"] for row in found["comparisons"]) == pytest.approx(
        min(1.0, 6 * min(row["p"] for row in found["comparisons"]))
    )

    table, made = (place / "out" / "suite.md").read_bytes(), _times(place / "home" / "reranked")
    assert len(made) == 4
    assert main(command) == 0
    assert (place / "out" / "suite.md").read_bytes() == table
    assert _times(place / "home" / "reranked") == made, "what was ranked is not ranked again"


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_group_counts_once() -> None:
    def result(title: str, group: str, value: float) -> CollectionResult:
        values = {name: {"nDCG@10": {"q1": value, "q2": value}} for name in ("first stage", "a")}
        return CollectionResult(title, group, title, "test", 1, 9, 2, "bm25", values)

    collections = [result("x", "x", 0.6), result("f1", "forums", 0.1), result("f2", "forums", 0.3)]
    found = suite_result("s", ["nDCG@10"], collections)
    # (0.6 + (0.1 + 0.3) / 2) / 2
    assert found.average("nDCG@10") == pytest.approx({"first stage": 0.4, "a": 0.4})


@pytest.mark.parametrize("path", shipped_files("suites"), ids=lambda path: path.stem)
def test_shipped_suites_name_collections_that_can_be_had(path: Path) -> None:
    suite = load_suite(path.stem)
    for one in suite.collections:
        assert one.collection.startswith("$STILLHOUSE_DATA/") or one.collection in ir_datasets.registry
    if path.stem == "beir":
        # 14 of the 18 sets beside MS MARCO can be downloaded; 12 forums are one of them.
        assert len({one.group or one.title for one in suite.collections}) == 14
        assert len(suite.collections) == 25


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"depht": 3}, "depht"),
        ({"collections": []}, "collections"),
        ({"collections": ["a", "a"]}, "two collections are called a"),
        ({"collections": [{"collection": "a", "relevance": 0}]}, "relevance"),
        ({"measures": ["nDGC@10"]}, "nDGC@10"),
        ({"candidates": {"depth": "many"}}, "depth"),
        ({"name": "a b"}, "name"),
    ],
)
def test_mistakes_are_one_line(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected) as caught:
        make_suite({"name": "s", "collections": ["a"], **change}, "s.yaml")
    assert str(caught.value).startswith("s.yaml: ")
    assert "\n" not in str(caught.value)


def test_depth_is_changed_everywhere() -> None:
    suite = with_depth(make_suite({"name": "s", "collections": ["a", {"collection": "b", "candidates": {"k1": 2}}]}), 7)
    assert suite.candidates.depth == 7
    assert suite.collections[0].candidates is None
    assert suite.collections[1].candidates is not None
    assert (suite.collections[1].candidates.depth, suite.collections[1].candidates.k1) == (7, 2)


def test_a_model_given_twice_is_refused(suite_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["suite", str(suite_file), "--model", "x", "--model", "x", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: --model x: given twice\n"
