"""What a run leaves in MLflow beyond its trials."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stillhouse.artifacts import stable_hash
from stillhouse.errors import TrackingError
from stillhouse.evaluation.report import Report
from stillhouse.pipeline.check import searched_space
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.diagnostics import teacher_picture, training_pictures
from stillhouse.pipeline.models import Model, TeacherFile
from stillhouse.pipeline.notes import recipe_note, results_note
from stillhouse.pipeline.provenance import about, changes, code_tags, data_tags, datasets, git, loss_tags, teacher_tags
from stillhouse.recipe import Recipe
from stillhouse.recipe.identity import settled
from stillhouse.recipe.text import to_yaml
from stillhouse.search.browsing import search_note
from stillhouse.search.record import flatten
from stillhouse.tracking import Point, Tracker, close_stale, open_tracker
from stillhouse.tracking.base import Status

PACKAGES = ("stillhouse", "ray", "torch", "transformers", "optuna", "mlflow", "ir_datasets", "ir_measures", "bm25s")

# Of a search what it keeps is left out too: it changes nothing that is measured.
NOT_RECORDED: Any = {
    "output": True,
    "tracking": True,
    "store": True,
    "search": {"keep_models": True, "keep_models_mib": True},
}

RECIPE = "recipe.yaml"
"""Artifact of each trial and each student's training: the recipe that gives it."""


class Recorder:
    """The MLflow side of one run: a parent, and a child for every training."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tracker: Tracker = open_tracker(context.recipe.tracking)
        recipe = context.recipe.model_dump(mode="json", exclude=NOT_RECORDED)
        self.key = stable_hash([settled(recipe), list(context.recipe.stages)])
        self.parent = self.tracker.run(self.key, context.recipe.name, tags=code_tags())
        self.children: dict[str, str] = {}
        self._notes: list[str] = []

    def start(self) -> None:
        """Log what is known before anything is trained."""
        recipe = self.context.recipe
        self.note(recipe_note(recipe))
        self.tracker.params(self.parent, flatten(recipe.model_dump(mode="json", exclude=NOT_RECORDED)))
        self.tracker.tag(self.parent, data_tags(self.context) | loss_tags(recipe))
        self.tracker.datasets(self.parent, datasets(self.context))
        facts = environment() | {"collection": self.context.collection.facts}
        with tempfile.TemporaryDirectory() as place:
            for name, value in (("recipe.json", recipe.model_dump(mode="json")), ("environment.json", facts)):
                path = Path(place, name)
                path.write_text(json.dumps(value, indent=1, default=str))
                self.tracker.artifact(self.parent, path)
            diff = changes()
            if diff:
                path = Path(place, "dirty.diff")
                path.write_text(diff)
                self.tracker.artifact(self.parent, path)

    def note(self, text: str) -> None:
        """Add a paragraph to the run's description."""
        self._notes.append(text)
        self.tracker.note(self.parent, "\n\n".join(self._notes))

    def searched(self, study: Any) -> None:
        """What a search found, in the run's description."""
        self.note(search_note(study.name, searched_space(self.context.recipe)[0], study.trials))

    def training(
        self, name: str, model: Model, recipe: Recipe | None = None, scores: TeacherFile | None = None
    ) -> None:
        """A child run with the training's parameters, its curves, and pictures of them.

        Of a student `recipe` is the whole of it and `scores` what taught it: `stillhouse repeat` needs no more.
        """
        run = self.tracker.run(stable_hash([self.key, "training", name, model.key]), name, parent=self.parent)
        self.children[name] = run
        if recipe is not None:
            told = about(self.context, scores)
            self.tracker.tag(run, told.tags(recipe))
            self.tracker.datasets(run, told.datasets)
            with tempfile.TemporaryDirectory() as place:
                path = Path(place, RECIPE)
                path.write_text(to_yaml(recipe.model_dump(mode="json")))
                self.tracker.artifact(run, path)
        self.tracker.params(run, flatten(model.facts["job"]))
        self.tracker.points(run, points_of(model))
        pictures = training_pictures(self.context, name, model)
        if pictures is not None:
            for picture in sorted(pictures.glob("*.png")):
                self.tracker.artifact(run, picture, "figures")
        self.tracker.end(run)

    def teacher(self, scores: TeacherFile | None) -> None:
        """Where the scores that students learn from are, and how they are spread."""
        self.tracker.tag(self.parent, teacher_tags(scores))
        pictures = teacher_picture(self.context, scores)
        if pictures is not None:
            for picture in sorted(pictures.glob("*.png")):
                self.tracker.artifact(self.parent, picture, "figures")

    def measures(self, report: Report, main: str) -> None:
        """Test measures of each system in a child of its own, those of the main system in the parent too."""
        for system in report.systems:
            points = [
                Point(f"test/{measure}", sum(values.values()) / len(values), 0, time.time())
                for measure, values in system.per_query.items()
            ]
            if system.name == main:
                self.tracker.points(self.parent, points)
            run = self.children.get(system.name)
            if run is None:
                run = self.tracker.run(stable_hash([self.key, "system", system.name]), system.name, parent=self.parent)
                self.children[system.name] = run
            self.tracker.points(run, points)
            self.tracker.end(run)
        self.note(results_note(report))

    def files(self) -> None:
        """What lies in the output folder: tables, record, per-query values, runs, figures, the student, the report."""
        output = self.context.output
        for path in (output / "report.html", output / "report.md", output / "report_files"):
            if path.exists():
                self.tracker.artifact(self.parent, path, "report" if path.is_file() else f"report/{path.name}")
        for path in (*sorted(output.glob("*.*")), output / "student", output / "runs", output / "figures"):
            if path.exists() and path.stem not in ("report", "search"):
                self.tracker.artifact(self.parent, path, "" if path.is_file() else path.name)

    def end(self, status: Status = "FINISHED") -> None:
        self.tracker.end(self.parent, status)


def points_of(model: Model) -> list[Point]:
    """What a training left behind as points of its run, under the names that trials have."""
    points = [
        Point(f"train/{key}", value, int(point["step"]), point["time"])
        for point in model.curve()
        for key, value in point.items()
        if key not in ("step", "time")
    ]
    # The means of what the curve has for each step would stand on its last one.
    known = {"step", "time", *(point.name for point in points)}
    return points + [
        Point(key if "/" in key else f"dev/{key}", value, int(point["step"]), point["time"])
        for point in model.evaluations()
        for key, value in point.items()
        if key not in known
    ]


@contextmanager
def recording(context: Context) -> Iterator[Recorder]:
    """A run in the record, closed as it ended; runs that a kill left open are closed first."""
    close_stale(context.recipe.tracking)
    recorder = Recorder(context)
    try:
        yield recorder
    except BaseException as error:
        # A store that is down must not hide what went wrong.
        with suppress(TrackingError):
            recorder.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    recorder.end()


def environment() -> dict[str, Any]:
    """Versions, commit and hardware: what a result may depend on beside the recipe."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": {name: _version(name) for name in PACKAGES} | {"python": sys.version.split()[0]},
        "commit": git("rev-parse", "HEAD").strip() + (" with changes" if changes() else ""),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(terse=True),
            "cores": psutil.cpu_count(logical=True),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": ", ".join(gpus) or "none",
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
