"""A driver to be killed: python study_driver.py ROOT MLFLOW_URI|none, on RAY_ADDRESS or a Ray of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stillhouse.recipe import Recipe, make_recipe
from stillhouse.search import SearchSpace, make_space
from stillhouse.search.record import StudyResult, Trial
from stillhouse.search.study import run_study
from stillhouse.tracking import MlflowTracker, NullTracker, Tracker

EVALUATIONS = 5
TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"


def recipe() -> Recipe:
    return make_recipe(
        {
            "name": "toy",
            "output": {"path": "unused"},
            "collection": {"train": "none", "dev": "none", "test": "none"},
            "teachers": {"file": {"scores": "none"}},
            "student": {"ranker": "dual_encoder", "backbone": "none"},
            "stages": {"distill": {"loss": {"name": "kl"}}},
        }
    )


def space(**changes: object) -> SearchSpace:
    drawn = {TEMPERATURE: {"float": [0.5, 8.0], "log": True}, NEGATIVES: {"choice": [1, 3, 7, 15]}}
    return make_space({"space": drawn, "trials": 6, "scheduler": "none", **changes})


def quality(temperature: float) -> float:
    """Where a trial's curve goes to: 1 at temperature 3."""
    return 1 - (temperature - 3) ** 2 / 25


def curve(temperature: float, evaluation: int) -> float:
    """What a trial reports at its evaluation 1, 2, ..."""
    return quality(temperature) * (1 - 0.5**evaluation)


class Curve:
    """An objective whose answer is known, that keeps its own checkpoints and notes where each start went on."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
        newest = checkpoint_dir / "evaluation"
        done = int(newest.read_text()) if newest.exists() else 0
        with (checkpoint_dir / "starts").open("a") as stream:
            stream.write(f"{done}\n")
        temperature = recipe.stages["distill"].loss.temperature  # type: ignore[union-attr]
        for evaluation in range(done + 1, EVALUATIONS + 1):
            time.sleep(self.seconds)
            newest.write_text(str(evaluation))
            report({"nDCG@10": curve(temperature, evaluation), "train/loss": 1 / evaluation}, 10 * evaluation)


def search(
    root: Path,
    tracker: Tracker,
    space: SearchSpace,
    objective: object,
    *,
    at_a_time: int = 2,
    resume: bool = False,
    keep_models: int | None = None,
    progress: Callable[[Trial], None] = lambda trial: print(trial.number, trial.state, trial.metric, flush=True),
) -> StudyResult:
    parent = tracker.run("parent", "search")
    return run_study(
        recipe(),
        space,
        objective,  # type: ignore[arg-type]
        root=root,
        tracker=tracker,
        parent_run=parent,
        resume=resume,
        placement=lambda: ({"CPU": 1.0}, at_a_time),
        metric_budget=EVALUATIONS,
        progress=progress,
        keep_models=keep_models,
    )


if __name__ == "__main__":
    import ray

    joined = "RAY_ADDRESS" in os.environ
    own = {} if joined else {"num_cpus": 2, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="ERROR", **own)
    tracker = NullTracker() if sys.argv[2] == "none" else MlflowTracker(sys.argv[2], "toy")
    search(Path(sys.argv[1]), tracker, space(), Curve(seconds=0.5), at_a_time=2 if joined else 1)
