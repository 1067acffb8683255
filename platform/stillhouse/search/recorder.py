"""Everything a trial leaves behind, in the order that survives a kill: its file, then MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.artifacts import atomic_file
from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.text import to_yaml
from stillhouse.search.browsing import best_points, trial_note, view_of
from stillhouse.search.keeping import remove_others
from stillhouse.search.record import Report, StudyFolder, Trial, flatten, identity
from stillhouse.search.space import SearchSpace
from stillhouse.search.spool import trial_folder
from stillhouse.tracking import Point, QueuedTracker, Tracker
from stillhouse.tracking.base import Dataset, Status

STATUS: dict[str, Status] = {"FINISHED": "FINISHED", "PRUNED": "FINISHED", "FAILED": "FAILED"}


@dataclass(frozen=True)
class About:
    """What MLflow is told of every trial besides its values."""

    tags: Callable[[Recipe], Mapping[str, str]] = lambda recipe: {}
    """From a trial's recipe: where its data and its scores come from, and who described its loss."""
    datasets: Sequence[Dataset] = ()


class Recorder:
    """Writes trials to the study's folder and to the tracker, and shows those that end.

    A trial's file names its run only when all of its record has arrived; one that does not is sent again by the
    next command, and MLflow keeps each point once.
    """

    def __init__(
        self,
        folder: StudyFolder,
        tracker: Tracker,
        parent_run: str | None,
        recipe: Recipe,
        space: SearchSpace,
        root: Path,
        progress: Callable[[Trial], None],
        keep_models: int | None = None,
        about: About | None = None,
    ) -> None:
        self.folder = folder
        self.tracker = QueuedTracker(tracker)
        self.parent_run = parent_run
        self.recipe = recipe
        self.space = space
        self.root = root
        self.progress = progress
        self.keep_models = keep_models
        self.about = about or About()
        self._started: dict[int, float] = {}
        self._handles: dict[int, str] = {}
        self._unconfirmed: list[Trial] = []
        self.tracker.view(view_of(folder.name, recipe.name, space, time.time()))

    def start(self, trial: Trial) -> None:
        """Open the trial's run, with the recipe it stands for."""
        self._started[trial.number] = time.monotonic()
        self._open(trial)

    def report(self, trial: Trial, reports: list[Report]) -> None:
        """Add reports that are new, and send their points."""
        known = {report.step for report in trial.reports}
        new = [report for report in reports if report.step not in known]
        trial.reports += new
        self.tracker.points(self._handles[trial.number], points_of(new))

    def end(self, trial: Trial) -> None:
        """Keep an ended trial: on disk first, then closed in the tracker, then shown."""
        trial.seconds = round(time.monotonic() - self._started.pop(trial.number, time.monotonic()), 3)
        best = trial.best_report(self.space)
        if trial.state == "FINISHED" and best is None:
            names = " and ".join(self.space.metrics)
            trial.state, trial.error = "FAILED", f"the trial ended without a report of {names}"
        trial.metrics = tuple(best.metrics[name] for name in self.space.metrics) if best else None
        self.folder.write_trial(trial)
        self.remove_others()
        self._close(trial)
        self.progress(trial)

    def catch_up(self, trial: Trial) -> None:
        """Record an ended trial that was recorded elsewhere, or not to the end."""
        self._open(trial)
        self.tracker.points(self._handles[trial.number], points_of(trial.reports))
        self._close(trial)

    def remove_others(self) -> None:
        """Delete the checkpoints of ended trials that are not among the best."""
        if self.keep_models is not None:
            remove_others(self.folder.trials(), self.space, self.keep_models, self.root)

    def is_recorded(self, trial: Trial) -> bool:
        """Whether all of an ended trial's record has arrived under this parent."""
        return trial.run_id is not None and trial.parent_run == self.parent_run

    def finish(self) -> None:
        """Wait until the record has arrived. Raises TrackingError if it does not."""
        try:
            self.tracker.flush()
        finally:
            self._confirm()

    def _open(self, trial: Trial) -> None:
        recipe = self._recipe_of(trial)
        tags = {
            "stillhouse.study": self.folder.name,
            "stillhouse.trial": str(trial.number),
            "stillhouse.seeds": str(self.space.seeds),
            "trial_state": "RUNNING",
            **(self.about.tags(recipe) if recipe is not None else {}),
        }
        handle = self.tracker.run(
            f"{self.folder.name}/{trial.key}", f"trial {trial.number:03d}", parent=self.parent_run, tags=tags
        )
        self._handles[trial.number] = handle
        if recipe is not None:
            self.tracker.datasets(handle, self.about.datasets)
            self.tracker.params(handle, flatten(identity(recipe)))
            path = trial_folder(self.root, trial.key) / "recipe.yaml"
            with atomic_file(path) as temporary:
                temporary.write_text(to_yaml(repeatable(recipe, self.recipe).model_dump(mode="json")))
            self.tracker.artifact(handle, path)

    def _recipe_of(self, trial: Trial) -> Recipe | None:
        try:
            return override(self.recipe, trial.values)
        except RecipeError:  # a combination that is no recipe: the trial fails and says why
            return None

    def _close(self, trial: Trial) -> None:
        tags = {"trial_state": trial.state} | ({"error": trial.error} if trial.error else {})
        handle = self._handles[trial.number]
        self.tracker.points(handle, best_points(trial, self.space))
        self.tracker.note(handle, trial_note(trial, self.folder.name, self.space))
        self.tracker.end(handle, STATUS[trial.state], tags)
        self._unconfirmed.append(trial)
        self._confirm()

    def _confirm(self) -> None:
        """Write the run's id into the files of those trials whose record has arrived."""
        waiting = []
        for trial in self._unconfirmed:
            run_id = self.tracker.delivered(self._handles[trial.number])
            if run_id is None:
                waiting.append(trial)
            else:
                trial.run_id, trial.parent_run = run_id, self.parent_run
                self.folder.write_trial(trial)
        self._unconfirmed = waiting


def repeatable(recipe: Recipe, base: Recipe) -> Recipe:
    """A trial's recipe that gives the same data and teachers by itself, where the trial has a seed of its own."""
    if recipe.seed == base.seed:
        return recipe
    places = {"collection": recipe.collection} | {f"teachers.{name}": one for name, one in recipe.teachers.items()}
    free = [place for place, spec in places.items() if getattr(spec, "seed", base.seed) is None]
    return override(recipe, {f"{place}.seed": base.seed for place in free})


def points_of(reports: list[Report]) -> list[Point]:
    """Reports as points of curves."""
    return [
        Point(name if "/" in name else f"dev/{name}", value, report.step, report.time)
        for report in reports
        for name, value in report.metrics.items()
    ]
