"""Early stopping at dev evaluations, in Ray Tune's schedulers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from stillhouse.search.record import Trial
from stillhouse.search.space import SearchSpace

TIME = "training_iteration"
BRACKETS = 3
MIN_SAMPLES = 3
"""Other trials that the median rule asks for before it stops one."""


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving (Li et al., arXiv:1810.05934) whose trials take their bracket by number.

    Ray draws it from a generator that no seed reaches, so a search could not be repeated, nor go on as it began.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._seed = seed

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put a trial into its bracket: a share of e^r of those with r rungs, as Ray has it."""
        super().on_trial_add(tune_controller, trial)
        rungs = [len(bracket._rungs) for bracket in self._brackets]
        bracket = bracket_of(trial.config["trial"]["number"], self._seed, rungs)
        self._trial_info[trial.trial_id] = self._brackets[bracket]


def bracket_of(number: int, seed: int, rungs: list[int]) -> int:
    """The bracket of a trial, drawn by its number alone."""
    shares = np.exp(np.array(rungs, dtype=float) - max(rungs))
    return int(np.random.default_rng([seed, number]).choice(len(rungs), p=shares / shares.sum()))


class Median(MedianStoppingRule):  # type: ignore[misc]
    """The median rule (Golovin et al., Vizier, 2017): stop where the best value so far is below the median of the
    other trials' running means. It does not judge at the last evaluation, and never pauses a trial."""

    def __init__(self, last_rung: int, **options: Any) -> None:
        # An infinite slice: Ray's rule would put trials aside while it has few samples.
        super().__init__(**options, min_samples_required=MIN_SAMPLES, min_time_slice=float("inf"))
        self._last_rung = last_rung

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge an evaluation; the last one only counts for others."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if result.get(TIME, 0) > self._last_rung:
            self._stopped_trials.discard(trial)
            return str(TrialScheduler.CONTINUE)
        return decision


@dataclass(frozen=True, eq=False)
class _Ended:
    """What a scheduler asks of a trial."""

    trial_id: str
    config: dict[str, Any]


def make_scheduler(space: SearchSpace, metric_budget: int, ended: Iterable[Trial] = ()) -> Any:
    """The scheduler for trials of `metric_budget` dev evaluations each, with what `ended` trials told it.

    No rung is set at the last evaluation: nothing would be saved by stopping there, and the trial could not end
    its work. `hyperband` is asha with three brackets, which start their halving at later and later rungs.
    """
    spec = space.scheduler
    last_rung = metric_budget - 1
    if spec.name == "none" or last_rung < spec.grace:
        return FIFOScheduler()
    judged: dict[str, Any] = {"time_attr": TIME, "metric": space.metrics[0], "mode": space.modes[0]}
    scheduler: Any
    if spec.name == "median":
        scheduler = Median(last_rung, **judged, grace_period=spec.grace)
    else:
        scheduler = Halving(
            space.sampler.seed,
            **judged,
            grace_period=spec.grace,
            max_t=last_rung,
            reduction_factor=spec.reduction_factor,
            brackets=BRACKETS if spec.name == "hyperband" else 1,
            stop_last_trials=False,
        )
    for trial in ended:
        _tell(scheduler, trial, space.metrics[0])
    return scheduler


def _tell(scheduler: Any, trial: Trial, metric: str) -> None:
    """Give a scheduler the curve of a trial that ended before a restart, as it was told then."""
    known = _Ended(trial.key, {"trial": {"number": trial.number}})
    scheduler.on_trial_add(None, known)
    values = [report.metrics[metric] for report in trial.reports if metric in report.metrics]
    results = [{TIME: number, metric: value} for number, value in enumerate(values, start=1)]
    for result in results:
        scheduler.on_trial_result(None, known, result)
    if results and trial.state != "PRUNED":
        scheduler.on_trial_complete(None, known, results[-1])
