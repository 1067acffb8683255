"""The part of a study that needs Ray and Optuna: trials run until the budget is spent."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from ray import tune

from stillhouse.environment import environment
from stillhouse.search.beginning import enqueue, learn_from
from stillhouse.search.placement import SayWhyNoneStarts, only_waits, room_for
from stillhouse.search.record import Trial
from stillhouse.search.recorder import Recorder
from stillhouse.search.schedulers import make_scheduler
from stillhouse.search.searcher import StudySearch
from stillhouse.search.stopped import KILLED_AFTER_S, GivePlacesBack
from stillhouse.search.trial import Objective, run_trial

MAX_DEATHS = 2
"""Times that a trial's process may die before the trial has failed; it goes on from its newest checkpoint."""

SETTINGS = {
    "TUNE_FORCE_TRIAL_CLEANUP_S": str(KILLED_AFTER_S),
    # A trial may fail before it has reported anything.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune would take a Ctrl-C for the end of every trial.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Relative paths of a recipe mean the same in a trial.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def search(
    recorder: Recorder,
    objective: Objective,
    context: Mapping[str, str],
    facts: Mapping[str, Any],
    placement: tuple[Mapping[str, float], int],
    metric_budget: int,
) -> None:
    """Run trials until the budget is spent."""
    space, recipe, folder, root = recorder.space, recorder.recipe, recorder.folder, recorder.root
    resources, max_concurrent = placement
    max_concurrent = min(max_concurrent, room_for(resources))
    started, spent = time.monotonic(), facts.get("seconds", 0.0)
    time_left = None if space.time_budget_s is None else space.time_budget_s - spent

    def note(reason: str | None = None) -> None:
        folder.write_facts({"seconds": round(spent + time.monotonic() - started, 3), "reason": reason})

    note()
    show = recorder.progress

    def ended(trial: Trial) -> None:
        note()
        show(trial)

    recorder.progress = ended
    with _quiet():
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder.path / 'optuna.db'}")
        deadline = None if time_left is None else started + time_left
        searcher = StudySearch(space, recipe, recorder, storage, root, context=context, deadline=deadline)
        learn_from(searcher.study, space, root)
        enqueue(searcher.study, space, recipe)
        shutil.rmtree(folder.path / "tune", ignore_errors=True)
        trainable = tune.with_parameters(
            run_trial, objective=objective, recipe=recipe, metrics=space.metrics, seeds=space.seeds, root=root
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([dict(resources)])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=make_scheduler(space, metric_budget, folder.trials()),
                num_samples=-1,
                max_concurrent_trials=max_concurrent,
                time_budget_s=time_left,
                # A stopped trial whose workers still train cannot be used again; with its process they end.
                reuse_actors=not only_waits(resources),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder.path),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
                callbacks=[SayWhyNoneStarts(resources), GivePlacesBack()],
            ),
        )
        tuner.fit()
        storage.remove_session()
    shutil.rmtree(folder.path / "tune", ignore_errors=True)
    note("space exhausted" if searcher.exhausted else "budget")


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Tune and Optuna by our settings, without their own output; the progress call shows what ends."""
    tune_log = logging.getLogger("ray.tune")
    level, verbosity = tune_log.level, optuna.logging.get_verbosity()
    tune_log.setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with environment(SETTINGS):
            yield
    finally:
        tune_log.setLevel(level)
        optuna.logging.set_verbosity(verbosity)
