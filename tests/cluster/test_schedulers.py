"""Every scheduler in a real study, one trial after the other: which trials it stops, and where, computed here too."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray

from stillhouse.recipe import Recipe
from stillhouse.search.record import StudyResult
from stillhouse.search.schedulers import bracket_of
from stillhouse.tracking import NullTracker
from tests.cluster import study_driver as toy

pytestmark = pytest.mark.usefixtures("cluster")
TRIALS = 10
LAST = toy.EVALUATIONS - 1
"""No trial is stopped at its last evaluation."""


@pytest.fixture(scope="module", autouse=True)
def by_value(cluster: None) -> None:
    ray.cloudpickle.register_pickle_by_value(toy)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def curve(temperature: float) -> list[float]:
    """Curves that cross: where one goes, and how fast, have nothing to do with each other."""
    slowness = 0.3 + 0.6 * (temperature * 7919 % 1)
    return [toy.quality(temperature) * (1 - slowness**evaluation) for evaluation in range(1, toy.EVALUATIONS + 1)]


class Crossing:
    """Reports its curve."""

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        temperature = recipe.stages["distill"].loss.temperature  # type: ignore[union-attr]
        for number, value in enumerate(curve(temperature), start=1):
            report({"nDCG@10": value}, number)


def study(root: Path, scheduler: object, trials: int = TRIALS, **changes: object) -> StudyResult:
    space = toy.space(trials=trials, scheduler=scheduler, sampler={"name": "tpe", "seed": 1})
    return toy.search(root, NullTracker(), space, Crossing(), at_a_time=1, **changes)


def given(result: StudyResult) -> list[int]:
    return [len(trial.reports) for trial in result.trials]


def curves(result: StudyResult) -> list[list[float]]:
    return [curve(trial.values[toy.TEMPERATURE]) for trial in result.trials]


def check(result: StudyResult, expected: list[int]) -> None:
    assert given(result) == expected
    assert len(set(expected)) > 1, "the curves show nothing"
    for trial, evaluations in zip(result.trials, expected, strict=True):
        assert trial.state == ("FINISHED" if evaluations == toy.EVALUATIONS else "PRUNED")
    whole = [trial for trial in result.trials if trial.state == "FINISHED"]
    assert result.best.metric == max(max(curve(trial.values[toy.TEMPERATURE])) for trial in whole)


def halving(curves: list[list[float]], rungs: list[set[int]], factor: float) -> list[int]:
    """Evaluations of each trial under successive halving: at a rung it has to reach the (1 - 1/factor) quantile of the
    values that trials of its bracket had there before; the first always goes on. `rungs`: of each trial's bracket."""
    seen: dict[tuple[int, ...], dict[int, list[float]]] = {}
    lengths = []
    for values, own in zip(curves, rungs, strict=True):
        bracket = seen.setdefault(tuple(sorted(own)), {rung: [] for rung in own})
        for evaluation, value in enumerate(values, start=1):
            length = evaluation
            if evaluation in own:
                before = list(bracket[evaluation])
                bracket[evaluation].append(value)
                if before and value < np.quantile(before, 1 - 1 / factor):
                    break
        lengths.append(length)
    return lengths


def test_asha_goes_on_after_a_break_as_without_one(tmp_path: Path) -> None:
    asha = {"name": "asha", "grace": 1, "reduction_factor": 2}
    whole = study(tmp_path / "whole", asha)
    # 4 evaluations can be stopped at: rungs 1, 2 and 4
    check(whole, halving(curves(whole), [{1, 2, 4}] * TRIALS, 2))
    study(tmp_path / "parts", asha, trials=6)
    parts = study(tmp_path / "parts", asha, resume=True)
    assert [trial.values for trial in parts.trials] == [trial.values for trial in whole.trials]
    assert given(parts) == given(whole)


def test_hyperband(tmp_path: Path) -> None:
    result = study(tmp_path, {"name": "hyperband", "grace": 1, "reduction_factor": 2})
    brackets = [{1, 2, 4}, {2, 4}, {4}]
    chosen = [bracket_of(number, 1, [3, 2, 1]) for number in range(TRIALS)]
    assert len(set(chosen)) > 1
    check(result, halving(curves(result), [brackets[index] for index in chosen], 2))


def test_brackets_have_the_shares_of_their_rungs() -> None:
    drawn = np.bincount([bracket_of(number, 5, [3, 2, 1]) for number in range(4000)], minlength=3) / 4000
    # e^0, e^-1, e^-2 over their sum 1.5032
    assert drawn == pytest.approx([0.665, 0.245, 0.090], abs=0.025)


def medians(curves: list[list[float]], grace: int) -> list[int]:
    """Evaluations of each trial under the median rule: stopped where its best so far is below the median of the means,
    from the grace on, of the at least three others that came as far."""
    ran: list[list[float]] = []
    for values in curves:
        for length in range(1, len(values) + 1):
            others = [one for one in ran if len(one) >= length]
            if grace <= length <= LAST and len(others) >= 3:
                means = [statistics.fmean(one[grace - 1 : length]) for one in others]
                if max(values[:length]) < statistics.median(means):
                    break
        ran.append(values[:length])
    return [len(one) for one in ran]


def test_median(tmp_path: Path) -> None:
    whole = study(tmp_path / "whole", {"name": "median", "grace": 2})
    check(whole, medians(curves(whole), 2))
    study(tmp_path / "parts", {"name": "median", "grace": 2}, trials=6)
    assert given(study(tmp_path / "parts", {"name": "median", "grace": 2}, resume=True)) == given(whole)


def test_none(tmp_path: Path) -> None:
    result = study(tmp_path, "none", trials=3)
    assert given(result) == [toy.EVALUATIONS] * 3
