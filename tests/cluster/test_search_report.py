"""A whole `stillhouse tune`, tiny and real: trials in Tune, the winner confirmed, the report on disk and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stillhouse.pipeline import ray_session, verbs
from stillhouse.pipeline.search_report import report_study
from stillhouse.recipe import make_recipe
from stillhouse.search import importance
from stillhouse.tracking.mlflow_tracker import open_client
from tests.unit.pipeline.test_baselines import tree

RATE, NEGATIVES = "stages.train.optimizer.learning_rate", "stages.train.groups.num_negatives"
SPACE = f"""
space:
  {RATE}: {{float: [1.0e-4, 1.0e-1], log: true}}
  {NEGATIVES}: {{choice: [1, 2]}}
sampler: random
scheduler: none
trials: 3
"""


@pytest.fixture
def recipe(
    cluster: None,
    collection_folder: Path,
    backbone: Path,
    tmp_path: Path,
    mlflow_template: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    # The session's cluster outlives the command.
    monkeypatch.setattr(ray_session, "disconnect", lambda: None)
    (tmp_path / "space.yaml").write_text(SPACE)
    toy = tree(collection_folder, backbone)
    toy |= {"teachers": {"a": toy["teachers"]["a"]}, "teacher_selection": "mean", "baselines": {}}
    toy["stages"]["train"] |= {"queries_per_step": 6, "evaluations": 2}
    toy |= {"search": {"space": "space.yaml", "confirm_seeds": 2}, "scale": {"cpus_per_worker": 1}}
    return make_recipe(toy | {"tracking": {"uri": mlflow_template(tmp_path), "experiment": "toy"}})


def test_a_search_is_reported_and_confirmed(recipe: Any, tmp_path: Path) -> None:
    study = verbs.tune(recipe, console=Console(quiet=True))
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert found["study"] == study.name
    assert found["best"]["number"] == study.best.number
    assert found["best"]["metrics"] == list(study.best.metrics)
    assert found["cost"]["states"] == {"FINISHED": 3}
    # 12 queries, 6 a step: 2 steps and 2 evaluations of each of three trials.
    assert (found["cost"]["steps"], found["cost"]["evaluations"]) == (6, 6)
    confirmed = found["confirmation"]
    assert confirmed["seeds"] == [0, 1]
    assert confirmed["comparison"]["queries"] == 8
    for values in confirmed["test"].values():
        assert len(values["nDCG@10"]) == 2
    means = {name: sum(values["nDCG@10"]) / 2 for name, values in confirmed["test"].items()}
    assert confirmed["comparison"]["difference"] == pytest.approx(means["best values"] - means["default values"])

    client = open_client(recipe.tracking.uri)
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "toy"]
    kept = {one.path for one in client.list_artifacts(parent.info.run_id, "search")}
    assert kept == {f"search/{name}" for name in ("search.html", "search.md", "search.json", "search_files")}
    pictures = {one.path for one in client.list_artifacts(parent.info.run_id, "search/search_files")}
    assert {"search/search_files/history.svg", "search/search_files/parallel.svg"} <= pictures
    names = {run.info.run_name for run in runs}
    assert {f"{side} values, seed {seed}" for side in ("best", "default") for seed in (0, 1)} <= names

    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "home" / "models").glob("*")}
    verbs.tune(recipe, console=Console(quiet=True))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "home" / "models").glob("*")} == trained
    assert json.loads((tmp_path / "out" / "search.json").read_text()) == found
    again = report_study(study.name[:5], tmp_path / "later.html", console=Console(quiet=True))
    assert list(again.summary) == found["summary"]
    assert (tmp_path / "later.md").read_text().replace("later_files", "search_files") == (
        tmp_path / "out" / "search.md"
    ).read_text()
