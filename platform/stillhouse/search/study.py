"""A study: Ray Tune runs the trials, Optuna draws them, and all of it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe
from stillhouse.search.check import check_space
from stillhouse.search.question import write_question
from stillhouse.search.record import StudyFolder, StudyResult, Trial, best_of, front_of, study_id
from stillhouse.search.recorder import About, Recorder
from stillhouse.search.space import SearchSpace
from stillhouse.tracking import Tracker

if TYPE_CHECKING:
    from stillhouse.search.trial import Objective

Placement = tuple[Mapping[str, float], int]
"""Ray resources of one trial, and the number of trials at a time."""


def run_study(
    recipe: Recipe,
    space: SearchSpace,
    objective: Objective,
    *,
    root: Path,
    tracker: Tracker,
    parent_run: str | None,
    resume: bool,
    placement: Callable[[], Placement],
    metric_budget: int,
    progress: Callable[[Trial], None] = lambda trial: None,
    context: Mapping[str, str] | None = None,
    keep_models: int | None = None,
    about: About | None = None,
) -> StudyResult:
    """Search `space` around `recipe`; each ended trial is kept under `root` and never run again.

    Of the trials that have ended only the best `keep_models` keep checkpoints and ranker (None: all do); `about`
    says what MLflow is told of every trial besides its values.

    `placement()` connects to Ray and is called only if there is a trial to run; `metric_budget` is the number of
    dev evaluations of a whole trial; `context` names what trials depend on besides the recipe (digests of data).
    Raises SearchError if the study is unfinished and `resume` is not set, if a trial cannot be placed, or if all fail.
    """
    check_space(space, recipe)
    root = root.absolute()
    context = context or {}
    folder = StudyFolder(root, study_id(recipe, space, context))
    with folder.locked():
        recorder = Recorder(folder, tracker, parent_run, recipe, space, root, progress, keep_models, about)
        write_question(folder.path, recipe, space)
        ended = folder.trials()
        facts = folder.facts()
        finished = is_finished(space, facts, len(ended))
        if facts and not finished and not resume:
            raise SearchError(
                f"study {folder.name} is unfinished: {len(ended)} of {space.trials} trials ended; --resume goes on"
            )
        recorder.remove_others()
        for trial in ended:
            if not recorder.is_recorded(trial):
                recorder.catch_up(trial)
        if not finished:
            from stillhouse.search.tuning import search

            search(recorder, objective, context, facts, placement(), metric_budget)
        recorder.finish()
        # Workers of a trial that was stopped may have written on for a moment.
        recorder.remove_others()
        trials = folder.trials()
        seconds = folder.facts()["seconds"]
        best, front = best_of(trials, space), front_of(trials, space)
        return StudyResult(best, trials, seconds, front, name=folder.name, measures=space.metrics)


def is_finished(space: SearchSpace, facts: Mapping[str, Any], num_ended: int) -> bool:
    """Whether the budget is spent; a larger one lets the same study go on."""
    if num_ended >= space.trials or facts.get("reason") == "space exhausted":
        return True
    return space.time_budget_s is not None and facts.get("seconds", 0.0) >= space.time_budget_s
