"""Trials that really train: two objectives, data that is loaded once, and work that ends when a trial is stopped."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from stillhouse.collection import Collection
from stillhouse.errors import SearchError
from stillhouse.pipeline.searching import StudentObjective, placement
from stillhouse.pipeline.trial_table import trial_table
from stillhouse.rankers import RANKERS
from stillhouse.recipe import Recipe, make_recipe, override
from stillhouse.search import check_space, make_space
from stillhouse.search.placement import SayWhyNoneStarts
from stillhouse.search.record import StudyResult
from stillhouse.search.study import run_study
from stillhouse.tracking import NullTracker
from stillhouse.training.job import TrainingJob
from tests.cluster import study_driver as toy
from tests.contracts.training_jobs import STAGE, toy_job

pytestmark = pytest.mark.usefixtures("cluster")
RATE = "stages.distill.optimizer.learning_rate"
EVALUATIONS = 3


@pytest.fixture(scope="module", autouse=True)
def by_value(cluster: None) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass
class World:
    recipe: Recipe
    job: TrainingJob

    def search(self, root: Path, objective: Any, changes: dict[str, Any], **how: Any) -> StudyResult:
        space = make_space({"space": {RATE: {"float": [1e-4, 1e-2], "log": True}}, "scheduler": "none", **changes})
        recipe = override(self.recipe, how.pop("overrides", {}))
        check_space(space, recipe)
        return run_study(
            recipe,
            space,
            objective,
            root=root,
            tracker=NullTracker(),
            parent_run=None,
            resume=False,
            placement=how.pop("placement", lambda: ({"CPU": 1.0}, 2)),
            metric_budget=EVALUATIONS,
            **how,
        )


@pytest.fixture(scope="module")
def world(toy: Collection, workspace: Path, backbone: Path) -> World:
    stage = {**STAGE, "evaluations": EVALUATIONS, "restore_best": True}
    job = toy_job(toy, workspace, backbone, {"distill": stage}, teacher=workspace / "trial-teacher.parquet")
    recipe = make_recipe(
        {
            "name": "toy",
            "output": {"path": "unused"},
            "collection": {"train": "none", "dev": "none", "test": "none"},
            "candidates": {"depth": 12},
            "teachers": {"file": {"scores": "none"}},
            "student": {**job.ranker},
            "stages": {"distill": stage},
            "evaluation": {"depth": 6},
            "scale": {"dtype": "float32"},
        }
    )
    return World(recipe, job)


@dataclass(frozen=True)
class Watched:
    """The real objective; notes which files its process has mapped and how it was asked to start."""

    inner: StudentObjective
    notes: Path

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        def noted(metrics: dict[str, float], step: int) -> None:
            report(metrics, step)
            lines = Path("/proc/self/maps").read_text().splitlines()
            (self.notes / f"{trial_key}.maps").write_text("\n".join(line for line in lines if ".npy" in line))

        self.inner(recipe, trial_key, checkpoint_dir, noted)


@pytest.fixture(scope="module")
def two(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path, dict[Path, tuple]]:
    """Six trials of two objectives, by nsgaii, over depth and cap of the student."""
    root = tmp_path_factory.mktemp("two")
    # The data of a first training, which the trials find.
    StudentObjective(world.job)(world.recipe, "first", root / "first", lambda metrics, step: None)
    before = prepared(Path(world.job.workspace))
    space = {
        "student.num_layers": {"choice": [1, 2]},
        "student.doc_max_length": {"choice": [4, 16]},
        RATE: {"float": [1e-4, 1e-2], "log": True},
    }
    changes = {"space": space, "metric": ["nDCG@10", "latency_ms"], "mode": ["max", "min"], "sampler": "nsgaii"}
    objective = Watched(StudentObjective(world.job, costs=True), root)
    return world.search(root, objective, {**changes, "trials": 6}), root, before


def prepared(workspace: Path) -> dict[Path, tuple]:
    """Files of tokens, candidates and scores, and what would change if they were made again."""
    found = [path for place in ("tokens", "candidates", "collections") for path in (workspace / place).rglob("*")]
    found += (workspace / "trial-teacher.parquet.mapped").rglob("*")
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found if path.suffix != ".lock"}


def test_every_trial_has_both_measures(two, world: World) -> None:
    study, _, _ = two
    assert study.measures == ("nDCG@10", "latency_ms")
    for trial in study.trials:
        assert trial.state == "FINISHED"
        assert len(trial.reports) == EVALUATIONS
        *early, last = (report.metrics for report in trial.reports)
        assert not any("latency_ms" in metrics for metrics in early)
        assert trial.metrics == (max(report.metrics["nDCG@10"] for report in trial.reports), last["latency_ms"])
        assert 0 < last["latency_ms"] <= last["latency_p95_ms"]
        assert last["latency_documents"] == 60  # all: the collection has fewer than 1,000
        assert last["latency_threads"] == 1
        spec = override(world.recipe, trial.values).student
        ranker = RANKERS["dual_encoder"].from_spec(spec)
        assert last["parameters"] == sum(one.numel() for one in ranker.parameters())
        assert last["bytes_per_doc"] == 32 * 4  # one float32 vector of the toy backbone's width


def test_front_is_what_no_other_beats(two) -> None:
    study, _, _ = two
    points = {trial.number: trial.metrics for trial in study.trials}
    expected = {
        number
        for number, (quality, time_ms) in points.items()
        if not any(q >= quality and t <= time_ms and (q, t) != (quality, time_ms) for q, t in points.values())
    }
    assert {trial.number for trial in study.front} == expected
    console = Console(file=StringIO(), width=250)
    console.print(trial_table(study))
    lines = console.file.getvalue().splitlines()
    assert sum("FINISHED *" in line for line in lines) == len(expected)
    assert "latency_ms" in "".join(lines[:4])


def test_trials_map_the_same_files_and_make_none(two, world: World) -> None:
    study, root, before = two
    workspace = Path(world.job.workspace)
    assert prepared(workspace) == before
    for trial in study.trials:
        maps = (root / f"{trial.key}.maps").read_text()
        assert f"{workspace}/tokens/" in maps
        assert f"{workspace}/candidates/" in maps
        assert "trial-teacher.parquet.mapped/" in maps
        assert all(line.split()[1].startswith("r-") for line in maps.splitlines() if str(workspace) in line)


def test_what_the_scheduler_stops_trains_no_more(world: World, tmp_path: Path) -> None:
    """One after the other, successive halving: a stopped trial has made the steps of its first evaluation, no more."""
    changes = {"scheduler": {"name": "asha", "grace": 1, "reduction_factor": 4}, "trials": 5, "sampler": "random"}
    study = world.search(tmp_path, StudentObjective(world.job), changes, placement=lambda: ({"CPU": 1.0}, 1))
    stopped = [trial for trial in study.trials if trial.state == "PRUNED"]
    assert stopped
    for trial in stopped:
        assert steps_of(tmp_path, trial.key) == trial.reports[-1].step
    assert not any((tmp_path / "trials" / trial.key / "outcome.json").exists() for trial in stopped)


def test_the_end_of_the_time_ends_the_work(world: World, tmp_path: Path) -> None:
    """A trial of hours, between two evaluations: its process stops within seconds of the budget."""
    longer = {"stages.distill.epochs": 100_000, "stages.distill.evaluations": 1}
    budget, root = 8.0, tmp_path
    while not steps_of_all(root):  # how long the start takes depends on the machine
        root, budget = tmp_path / f"{budget:.0f}", budget * 2
        assert budget < 300
        started = time.monotonic()
        with pytest.raises(SearchError, match=r"time budget"):
            world.search(
                root,
                StudentObjective(world.job),
                {"trials": 1, "time_budget_s": budget / 2},
                overrides=longer,
                placement=lambda: ({"CPU": 1.0}, 1),
            )
        assert time.monotonic() - started < budget / 2 + 60
    done = steps_of_all(root)
    time.sleep(4)
    assert steps_of_all(root) == done


def steps_of_all(root: Path) -> int:
    return sum(steps_of(root, path.name) for path in (root / "trials").glob("*"))


@dataclass(frozen=True)
class KilledOnce:
    """The real objective; its process is killed after the second evaluation."""

    inner: StudentObjective
    marker: Path

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        reports = 0

        def killed(metrics: dict[str, float], step: int) -> None:
            nonlocal reports
            report(metrics, step)
            reports += 1
            if reports == 2 and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        self.inner(recipe, trial_key, checkpoint_dir, killed)


def test_a_killed_worker_goes_on_from_its_newest_checkpoint(world: World, tmp_path: Path) -> None:
    objective = StudentObjective(world.job)
    killed = world.search(tmp_path / "killed", KilledOnce(objective, tmp_path / "marker"), {"trials": 1})
    whole = world.search(tmp_path / "whole", objective, {"trials": 1})
    assert (tmp_path / "marker").exists()
    (one,), (other,) = killed.trials, whole.trials
    assert (one.state, one.values, one.metrics) == ("FINISHED", other.values, other.metrics)
    measured = [(report.step, report.metrics["nDCG@10"]) for report in one.reports]
    assert measured == [(report.step, report.metrics["nDCG@10"]) for report in other.reports]
    curve = tmp_path / "killed" / "trials" / one.key / "checkpoints" / "curve.jsonl"
    steps = [json.loads(line)["step"] for line in curve.read_text().splitlines()]
    assert steps == list(range(1, one.reports[-1].step + 1))


def steps_of(root: Path, key: str) -> int:
    """Optimiser steps that a trial has made."""
    curve = root / "trials" / key / "checkpoints" / "curve.jsonl"
    return len(curve.read_text().splitlines()) if curve.exists() else 0


@pytest.mark.parametrize(
    ("scale", "needs"),
    [
        ({"gpus_per_worker": 1}, r"1 x \(1 CPU, 1 GPU\), but the cluster has 2 CPU and 0 GPU"),
        ({"cpus_per_worker": 64}, r"1 x \(64 CPU, 0 GPU\), but the cluster has 2 CPU and 0 GPU"),
        ({"num_workers": 4, "cpus_per_worker": 1}, r"4 x \(1 CPU, 0 GPU\), but the cluster has 2 CPU"),
    ],
)
def test_what_cannot_be_placed_says_so_at_once(world: World, tmp_path: Path, scale: dict, needs: str) -> None:
    recipe = override(world.recipe, {f"scale.{name}": value for name, value in scale.items()})
    started = time.monotonic()
    with pytest.raises(SearchError, match=f"a trial needs {needs}"):
        world.search(
            tmp_path,
            StudentObjective(world.job),
            {"trials": 1},
            placement=lambda: placement(recipe, ray.cluster_resources()),
        )
    assert time.monotonic() - started < 30
    assert os.listdir(tmp_path / "studies")


def test_a_trial_that_waits_for_others_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All CPUs are held by somebody: after the wait one line says what is free; when they go the search goes on."""
    ray.cloudpickle.register_pickle_by_value(toy)
    holder = ray.remote(Holder).options(num_cpus=2).remote()
    ray.get(holder.here.remote())
    monkeypatch.setattr(SayWhyNoneStarts.__init__, "__defaults__", (2.0,))

    class Release(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ray.kill(holder)

    release = Release()
    logging.getLogger("stillhouse.search.placement").addHandler(release)
    try:
        result = toy.search(tmp_path, NullTracker(), toy.space(trials=1), toy.Curve())
    finally:
        logging.getLogger("stillhouse.search.placement").removeHandler(release)
    assert result.best.state == "FINISHED"
    line = "no trial has started for 2 s: one needs 1 CPU; free are 0 of 2 CPU and 0 of 0 GPU"
    assert line in caplog.text


class Holder:
    def here(self) -> bool:
        return True
