from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.comparison.finished import flat, without_passwords
from stillhouse.comparison.sources import Asked, gather
from stillhouse.errors import CollectionError, StillhouseError, TrackingError
from stillhouse.evaluation.report import SystemResult, build_report, write_report
from stillhouse.evaluation.trec import write_run
from stillhouse.rankers import RANKERS
from stillhouse.recipe import make_recipe
from stillhouse.recipe.text import to_yaml
from stillhouse.tracking import MlflowTracker, Point
from tests.contracts.report_pages import make_ground, make_run

MAIN, OTHER = "distilled student", "bm25"


def silent(_: str) -> None:
    """Nobody reads the notes."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection, and the output folder of a run on it as `stillhouse run` leaves it."""
    place = tmp_path_factory.mktemp("finished")
    ground = make_ground(place)
    folder, ref = place / "out", f"{place}/collection/test"
    runs = {OTHER: make_run([2] * 20, 1), MAIN: make_run([1, 2] * 10, 2)}
    results = []
    for name, run in runs.items():
        path = folder / "runs" / f"{name.replace(' ', '-')}.test.trec.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_run(path, run, "tag")
        values = {f"q{row}": 1.0 if name == MAIN and row % 2 == 0 else 0.5 for row in range(20)}
        results.append(SystemResult(name, "test", {"RR@10": values}))
    write_report(build_report(results, [(MAIN, OTHER)]), folder)
    recipe = make_recipe(
        {
            "name": "toy",
            "collection": {"train": ref, "dev": ref, "test": ref},
            "teachers": {},
            "student": {"ranker": "dual_encoder", "backbone": "minilm"},
            "stages": {"label": {"loss": {"name": "contrastive"}}},
            "evaluation": {"measures": ["RR@10"], "select_by": "RR@10", "depth": 10},
            "output": {"path": str(folder)},
            "tracking": {"uri": "http://example.org"},
        }
    )
    (folder / "recipe.yaml").write_text(to_yaml(json.loads(recipe.model_dump_json())))
    record = {"collection_digest": ground.collection.digest, "tracking_uri": "none", "store_keys": ["abc"]}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "student").mkdir()
    (folder / "student" / "curve.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')
    (folder / "student" / "evaluations.jsonl").write_text('{"step": 2, "time": 1.0, "RR@10": 0.75}\n')
    return place


def test_a_finished_run(made: Path) -> None:
    found = gather([str(made / "out")], Asked(), made / "workspace", silent)
    assert [entrant.name for entrant in found.entrants] == [OTHER, MAIN]
    assert found.pairs == [(MAIN, OTHER)]
    assert found.measures == ["RR@10"]
    assert found.curves[MAIN].loss == [(1, 0.5), (2, 0.25)]
    assert found.curves[MAIN].dev == {"RR@10": [(2, 0.75)]}
    facts = found.sections[0].facts | found.sections[1].facts
    assert facts["score stores"] == "abc"
    assert facts["MLflow run"] == "not recorded"
    assert "http://example.org" in found.sections[1].text


def test_run_files_and_a_reference(made: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.trec", tmp_path / "b.run.gz"
    write_run(first, make_run([1] * 20, 1), "a")
    write_run(second, make_run([2] * 20, 1), "b")
    names, ref = [str(first), str(second)], str(made / "collection")
    found = gather(names, Asked(collection=ref), made / "workspace", silent)
    assert [entrant.name for entrant in found.entrants] == ["a", "b"]
    # All against the first, unless another is asked for.
    assert found.pairs == [("b", "a")]
    assert found.measures == ["nDCG@10", "RR@10"]
    assert len(found.ground.qrels) == 20
    other = gather(names, Asked(collection=ref, reference="b", measures=["AP"]), made / "workspace", silent)
    assert (other.pairs, other.measures) == ([("a", "b")], ["AP"])
    # Beside a finished run its collection serves, and what it is about is tested against all.
    mixed = gather([str(made / "out"), str(first)], Asked(), made / "workspace", silent)
    assert mixed.pairs == [(MAIN, OTHER), (MAIN, "a")]
    twice = gather([str(first), str(first)], Asked(collection=ref), made / "workspace", silent)
    assert [entrant.name for entrant in twice.entrants] == ["a", "a (2)"]


def test_judgements_of_unknown_documents_count(made: Path, tmp_path: Path) -> None:
    # As trec_eval has it: a relevant document that the corpus lacks still lowers recall.
    folder = tmp_path / "more"
    folder.mkdir()
    for file in (made / "collection").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with (folder / "qrels.test.tsv").open("a") as stream:
        stream.write("q0\t0\tgone\t1\n")
    run = tmp_path / "a.trec"
    write_run(run, make_run([1] * 20, 1), "a")
    found = gather([str(run)], Asked(collection=str(folder)), tmp_path / "workspace", silent)
    assert found.ground.qrels["q0"] == {"d0": 1, "gone": 1}


def test_a_model_re_ranks_and_is_timed(made: Path, backbone: Path, tmp_path: Path) -> None:
    ranker = RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=8)
    ranker.save_pretrained(tmp_path / "model")
    asked = Asked(collection=str(made / "collection"), depth=5)
    found = gather([str(tmp_path / "model")], asked, made / "workspace", silent)
    (entrant,) = found.entrants
    assert {len(scores) for scores in entrant.run.values()} == {5}
    assert entrant.latency is not None
    assert entrant.latency.cached_median_ms is not None
    facts = found.sections[-1].facts
    assert facts["architecture"] == "dual_encoder"
    assert facts["weights digest"] == ranker.weight_digest()


def test_a_recorded_run_and_one_of_its_rankers(
    made: Path, tmp_path: Path, mlflow_template: Callable[[Path], str]
) -> None:
    tracker = MlflowTracker(mlflow_template(tmp_path), "toy")
    parent = tracker.run("p", "toy")
    child = tracker.run("c", MAIN, parent=parent)
    trial = tracker.run("t", "trial 000", parent=parent)
    for path in sorted((made / "out").glob("*.*")):
        tracker.artifact(parent, path)
    tracker.artifact(parent, made / "out" / "runs", "runs")
    tracker.points(child, [Point("train/loss", 0.5, 1, 1.0), Point("dev/RR@10", 0.25, 1, 1.0)])
    asked = Asked(tracking=tracker.uri)
    found = gather([parent], asked, made / "workspace", silent)
    assert [entrant.name for entrant in found.entrants] == [OTHER, MAIN]
    assert [entrant.name for entrant in gather([child], asked, made / "workspace", silent).entrants] == [MAIN]
    with pytest.raises(TrackingError, match=r"\(trial 000\): it keeps no ranking of the test queries"):
        gather([trial], asked, made / "workspace", silent)
    with pytest.raises(TrackingError, match="does not give it"):
        gather(["0" * 32], asked, made / "workspace", silent)


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (["nowhere"], Asked(), "report nowhere: found no such thing; expected"),
        (["out/runs/bm25.test.trec.gz"], Asked(), "name the queries and judgements with --collection"),
        (["out"], Asked(reference="x"), "--reference x: no such ranker; there are bm25, distilled student"),
        (["out/runs/bm25.test.trec.gz"], Asked(collection="nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_compared(
    made: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], asked: Asked, message: str
) -> None:
    monkeypatch.chdir(made)
    with pytest.raises(StillhouseError, match=message):
        gather(names, asked, made / "workspace", silent)


def test_a_run_on_texts_that_have_changed_is_refused(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "runs").mkdir(parents=True)
    for name in ("results.json", "recipe.yaml"):
        (folder / name).write_bytes((made / "out" / name).read_bytes())
    (folder / "record.json").write_text('{"collection_digest": "older"}')
    with pytest.raises(CollectionError, match="measured on collection older, which has since become"):
        gather([str(folder)], Asked(), made / "workspace", silent)


def test_the_run_file_is_read_with_its_errors(made: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bad.trec.gz", "wt") as stream:
        stream.write("q0 Q0 d0 1 nan tag\n")
    with pytest.raises(CollectionError, match="line 1"):
        gather([str(tmp_path / "bad.trec.gz")], Asked(collection=str(made / "collection")), made / "workspace", silent)


def test_words() -> None:
    assert flat({"a": 0.5, "b": {"c": [1, 2]}}) == "a 0.5, b c 1, 2"
    assert without_passwords("uri: http://me:pass@host:5000/x\n") == "uri: http://host:5000/x\n"
