"""What a search cost, and what stopping early saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, override
from stillhouse.search.record import Trial


@dataclass(frozen=True)
class SearchCost:
    """Counts and seconds of a study."""

    states: dict[str, int]
    """FINISHED, PRUNED, FAILED -> trials."""
    trial_seconds: float
    """Sum over trials, of each since it last started; trials side by side count each."""
    wall_seconds: float
    """Over all sessions of the study."""
    evaluations: int
    """Dev evaluations done by the trials that finished or were stopped."""
    evaluations_saved: int
    """Those that stopped trials did not make any more."""
    steps: int
    """Optimiser steps up to the last evaluation of each of those trials."""
    steps_saved: int | None
    """Steps that stopped trials did not make; None where finished trials end at different steps."""


def search_cost(trials: Sequence[Trial], wall_seconds: float, recipe: Recipe) -> SearchCost:
    """`recipe` is what the trials changed: its stages say how many evaluations a whole trial has."""
    counted = [trial for trial in trials if trial.state in ("FINISHED", "PRUNED")]
    stopped = [trial for trial in counted if trial.state == "PRUNED"]
    ends = {_steps(trial) for trial in counted if trial.state == "FINISHED"}
    saved = sum(ends.copy().pop() - _steps(trial) for trial in stopped) if len(ends) == 1 else None
    return SearchCost(
        dict(sorted(Counter(trial.state for trial in trials).items())),
        round(sum(trial.seconds for trial in trials), 1),
        round(wall_seconds, 1),
        sum(len(trial.reports) for trial in counted),
        sum(max(0, _whole(recipe, trial) - len(trial.reports)) for trial in stopped),
        sum(_steps(trial) for trial in counted),
        0 if not stopped else saved,
    )


def _steps(trial: Trial) -> int:
    return trial.reports[-1].step if trial.reports else 0


def _whole(recipe: Recipe, trial: Trial) -> int:
    """Evaluations of the trial's whole training."""
    try:
        return sum(stage.evaluations for stage in override(recipe, trial.values).stages.values())
    except RecipeError:  # a combination that is no recipe never began
        return 0
