"""The smoke recipe from the command line: every step is real; what it leaves behind is checked by other libraries.

In a folder that comes before the cluster tests: it starts a Ray of its own, and two at a time confuse Ray Train.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import torch

from stillhouse import load_ranker
from stillhouse.collection import open_collection

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "jobs" / "recipes" / "smoke.yaml"


def stillhouse(folder: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = [f"output.path={folder}/out", f"store.path={folder}/scores", f"tracking.uri=sqlite:///{folder}/ml.db"]
    command = [sys.executable, "-m", "stillhouse", "--debug", verb, str(RECIPE)]
    for setting in settings:
        command += ["--set", setting]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "platform")}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=900, env=environment
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("smoke")
    finished = stillhouse(folder, "run")
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, finished.stdout


@pytest.fixture(scope="module")
def results(done) -> dict:
    return json.loads((done[0] / "out" / "results.json").read_text())


@pytest.fixture(scope="module")
def record(done) -> dict:
    return json.loads((done[0] / "out" / "record.json").read_text())


@pytest.fixture(scope="module")
def collection(done):
    (path,) = (done[0] / ".stillhouse" / "collections").glob("*/done.json")
    return open_collection(path.parent)


def test_the_table_has_every_system(done, results):
    names = [row["ranker"] for row in results["rows"]]
    assert names == ["bm25", "untuned student", "teacher", "contrastive student", "distilled student"]
    assert all(name in done[1] for name in names)
    assert {row["queries"] for row in results["rows"]} == {22}
    tests = next(row["tests"] for row in results["rows"] if row["ranker"] == "distilled student")
    assert {test["against"] for test in tests} == set(names) - {"distilled student"}
    for row in results["rows"][1:]:
        assert row["latency_ms"] > 0
        # Every re-ranker orders the same candidates: recall at their depth cannot differ.
        assert row["measures"]["R@8"] == results["rows"][0]["measures"]["R@8"]


def test_measures_equal_those_of_the_written_runs(done, results, collection):
    split = collection.splits["test"]
    qrels = [
        ir_measures.Qrel(split.queries.ids[query], collection.docs.ids[doc], grade)
        for query, docs in split.qrels.items()
        for doc, grade in docs.items()
    ]
    for row in results["rows"]:
        file = done[0] / "out" / "runs" / f"{row['ranker'].replace(' ', '-')}.test.trec.gz"
        import gzip

        with gzip.open(file, "rt") as stream:
            run = list(ir_measures.read_trec_run(stream.read()))
        values = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in row["measures"]], qrels, run)
        assert {str(name): value for name, value in values.items()} == pytest.approx(row["measures"])


def test_trials_are_children_of_the_search_and_one_had_two_workers(done, record):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{done[0]}/ml.db")
    experiment = client.get_experiment_by_name("smoke")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parent = client.get_run(record["parent_run_id"])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert set(record["child_run_ids"].values()) == {run.info.run_id for run in children}
    trials = [run for run in children if "stillhouse.trial" in run.data.tags]
    assert len(trials) == 3
    assert "2" in {run.data.params["scale.num_workers"] for run in trials}
    assert all(0 <= run.data.metrics["dev/nDCG_at_10"] <= 1 for run in trials)
    assert record["best"]["stages.distill.loss.temperature"] > 0


def test_the_parent_run_holds_the_measures_of_the_student(done, results, record):
    from mlflow import MlflowClient

    parent = MlflowClient(f"sqlite:///{done[0]}/ml.db").get_run(record["parent_run_id"])
    student = next(row for row in results["rows"] if row["ranker"] == "distilled student")
    assert parent.data.metrics["test/nDCG_at_10"] == pytest.approx(student["measures"]["nDCG@10"])
    assert parent.data.params["student.num_layers"] == "1"


def test_the_report_is_attached_to_the_parent_run(done, results, record):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{done[0]}/ml.db")
    there = {entry.path for entry in client.list_artifacts(record["parent_run_id"], "report")}
    assert there == {"report/report.html", "report/report.md", "report/report_files"}
    page = (done[0] / "out" / "report.html").read_text()
    for row in results["rows"]:
        assert f'<th scope="row">{row["ranker"]}</th><td>{row["measures"]["nDCG@10"]:.4f}</td>' in page
    assert record["environment"]["versions"]["torch"] in page
    history = client.get_metric_history(record["child_run_ids"]["distilled student"], "dev/nDCG_at_10")
    assert [point.step for point in history] == sorted({point.step for point in history})
    assert len(history) >= 1


def test_the_student_opens_in_sentence_transformers_with_equal_scores(done, collection):
    from sentence_transformers import SentenceTransformer

    docs = ["count the words", "an open file", "the event loop runs a task"]
    mine = load_ranker(done[0] / "out" / "student").score(["run a task"], [docs])
    model = SentenceTransformer(str(done[0] / "out" / "student"), device="cpu")
    theirs = model.similarity(model.encode(["run a task"]), model.encode(docs))
    torch.testing.assert_close(mine, theirs.float(), atol=1e-4, rtol=1e-4)


def test_the_teacher_opens_in_sentence_transformers_with_equal_scores(done):
    from sentence_transformers import CrossEncoder

    docs = ["count the words", "an open file", "the event loop runs a task"]
    mine = load_ranker(done[0] / "out" / "teacher").score(["run a task"], [docs])
    model = CrossEncoder(str(done[0] / "out" / "teacher"), device="cpu")
    theirs = model.predict([("run a task", doc) for doc in docs])
    np.testing.assert_allclose(mine[0].numpy(), theirs, atol=1e-4, rtol=1e-4)


def test_a_second_run_finds_everything_done(done, results):
    started = time.monotonic()
    again = stillhouse(done[0], "run")
    assert again.returncode == 0, again.stderr[-3000:]
    assert time.monotonic() - started < 60
    assert "pairs scored" not in again.stdout
    rows = json.loads((done[0] / "out" / "results.json").read_text())["rows"]
    assert rows == results["rows"]


def test_the_record_names_the_store_that_holds_the_scores(done, record):
    from stillhouse.scores.store import ScoreStore

    store = ScoreStore.open(done[0] / "scores" / record["store_key"])
    # 64 queries with at most 8 candidates and the positive that they may miss.
    assert 64 * 7 < len(store) <= 64 * 9


def test_single_verbs_leave_the_results_of_the_run_alone(done, results):
    evaluated = stillhouse(done[0], "evaluate")
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    rows = json.loads((done[0] / "out" / "evaluation" / "results.json").read_text())["rows"]
    expected = {row["ranker"]: row["measures"] for row in results["rows"]}
    assert {row["ranker"]: row["measures"] for row in rows} == {
        name: expected[name] for name in ("bm25", "distilled student")
    }
    assert len(json.loads((done[0] / "out" / "results.json").read_text())["rows"]) == 5


def test_pictures_and_cards_are_there(done):
    for name in ("scores", "margins", "latency"):
        assert (done[0] / "out" / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    card = (done[0] / "out" / "student" / "README.md").read_text()
    assert "Taught by cross" in card
    assert "nDCG@10" in card
    assert "Best on dev" in card
    assert "| distilled student - contrastive student |" in card
    assert card.index("## Training") < card.index("## Measured") < card.index("## How to load")
    assert "nDCG@10" in (done[0] / "out" / "teacher" / "README.md").read_text()


def test_plan_knows_that_nothing_is_left_to_score(done):
    plan = stillhouse(done[0], "plan")
    assert plan.returncode == 0, plan.stderr[-3000:]
    line = next(line for line in plan.stdout.splitlines() if "cross" in line)
    _, pairs, stored, new, *_ = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert (stored, new) == (pairs, "0")
