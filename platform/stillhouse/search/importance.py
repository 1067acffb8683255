"""Which of the drawn keys mattered: each key's share of what the trials differ in, and what chance alone would give.

Functional ANOVA over a random forest (Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing
Hyperparameter Importance"), or PED-ANOVA (Watanabe et al. 2023) where scikit-learn is missing; both are Optuna's.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from stillhouse.search.dimensions import Choice, Dimension
from stillhouse.search.record import Trial
from stillhouse.search.sampling import encode
from stillhouse.search.space import Point, SearchSpace

MIN_TRIALS = 6
"""With fewer, no evaluator can tell anything."""
SHUFFLES = 19
"""The largest share of 19 shuffles is passed by chance once in twenty."""
MIN_SHARE = 0.05
"""A key that explains less does not matter, however sure that little is."""
TREES = 16

Evaluator = Literal["fanova", "ped-anova"]
Judged = Sequence[tuple[Point, float]]
"""Drawn values and the measure that came of them."""


@dataclass(frozen=True)
class KeyImportance:
    """What one drawn key explains."""

    share: float | None
    """fANOVA: share of the measure's variance over the space that this key alone explains. PED-ANOVA: its weight among
    the keys. None where it cannot be told."""
    chance: float | None
    """The largest share that the key got when its values were shuffled over the trials."""
    trials: int
    """Judged trials that drew the key; a conditional key is judged on those only."""
    reason: str = ""
    """Why there is no share."""

    @property
    def mattered(self) -> bool:
        """Whether the share is above what chance gives, and more than a trifle."""
        return self.share is not None and self.chance is not None and self.share > max(self.chance, MIN_SHARE)


@dataclass(frozen=True)
class Importance:
    """The keys of a space, judged on the same kind of measure."""

    evaluator: Evaluator
    basis: str
    """What was judged: `finished trials`, or `all trials at evaluation 1`."""
    trials: int
    keys: dict[str, KeyImportance]


def importances(trials: Sequence[Trial], space: SearchSpace, objective: int = 0) -> list[Importance]:
    """Of the finished trials; where some were stopped early also of all, at the last evaluation that each of them had.

    Finished trials have their whole training behind them, but early stopping leaves only good ones among them.
    """
    finished = [
        (trial.values, trial.metrics[objective]) for trial in trials if trial.state == "FINISHED" and trial.metrics
    ]
    found = [judge(space, finished, "finished trials")]
    name = space.metrics[objective]
    stopped = [trial for trial in trials if trial.state == "PRUNED"]
    curves = [
        (trial.values, [report.metrics[name] for report in trial.reports if name in report.metrics])
        for trial in trials
        if trial.state in ("FINISHED", "PRUNED")
    ]
    begun = [(values, curve) for values, curve in curves if curve]
    if stopped and begun:
        evaluation = min(len(curve) for _, curve in begun)
        early = [(values, curve[evaluation - 1]) for values, curve in begun]
        found.append(judge(space, early, f"all trials at evaluation {evaluation}"))
    return found


def judge(
    space: SearchSpace, judged: Judged, basis: str, *, evaluator: Evaluator | None = None, seed: int = 0
) -> Importance:
    """The importance of every key of the space.

    A key that not every trial drew is judged on those trials that did, beside the keys that they all have.
    """
    name: Evaluator = evaluator or ("fanova" if find_spec("sklearn") else "ped-anova")
    shares = _shares(space, judged, name, seed)
    keys = {}
    for key in space.space:
        if key in shares:
            keys[key] = shares[key]
        else:
            having = [(point, value) for point, value in judged if key in point]
            keys[key] = _shares(space, having, name, seed).get(key, _untold(0))
    return Importance(name, basis, len(judged), keys)


def _shares(space: SearchSpace, judged: Judged, name: Evaluator, seed: int) -> dict[str, KeyImportance]:
    """Of the keys that all these trials drew."""
    count = len(judged)
    shared = [key for key in space.space if all(key in point for point, _ in judged)] if judged else []
    values = [value for _, value in judged]
    if count < MIN_TRIALS:
        return {key: _untold(count) for key in shared}
    if max(values) == min(values):
        return {key: KeyImportance(None, None, count, "all of them measured the same") for key in shared}
    points = [point for point, _ in judged]
    explained = _evaluate(_study(space, points, shared), values, name, seed, space.modes[0])
    by_chance = {key: _by_chance(space, points, shared, key, values, name, seed) for key in shared}
    return {key: KeyImportance(explained[key], by_chance[key], count) for key in shared}


def _by_chance(
    space: SearchSpace,
    points: Sequence[Point],
    keys: Sequence[str],
    key: str,
    values: Sequence[float],
    name: Evaluator,
    seed: int,
) -> float:
    """The largest share of a key whose values are shuffled over the trials; the other keys keep theirs.

    Shuffling the measures instead would take away what the other keys explain, and weak keys could never be told.
    """
    rng = random.Random(seed)
    largest = 0.0
    for _ in range(SHUFFLES):
        drawn = rng.sample([point[key] for point in points], len(points))
        shuffled = [{**point, key: value} for point, value in zip(points, drawn, strict=True)]
        shares = _evaluate(_study(space, shuffled, keys), values, name, seed, space.modes[0])
        largest = max(largest, shares[key])
    return largest


def _untold(count: int) -> KeyImportance:
    return KeyImportance(None, None, count, f"there are {count} trials to go by, {MIN_TRIALS} are needed")


def _evaluate(study: optuna.Study, values: Sequence[float], name: Evaluator, seed: int, mode: str) -> dict[str, float]:
    # PED-ANOVA takes low targets for good ones; fANOVA looks at the spread only.
    sign = -1.0 if mode == "max" else 1.0
    target = _target([sign * value for value in values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = _evaluator(name, seed).evaluate(study, target=target)
    total = sum(shares.values())
    scale = 1.0 if name == "fanova" or total == 0 else total
    return {key: float(share) / scale for key, share in shares.items()}


def _evaluator(name: Evaluator, seed: int) -> BaseImportanceEvaluator:
    if name == "fanova":
        return FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
    return PedAnovaImportanceEvaluator(target_quantile=0.25)


def _target(values: Sequence[float]) -> Callable[[optuna.trial.FrozenTrial], float]:
    return lambda trial: values[trial.number]


def _study(space: SearchSpace, points: Sequence[Point], keys: Sequence[str]) -> optuna.Study:
    """The points as a study in memory; a logarithmic range is laid out in the logarithm, as it is drawn."""
    layout = {key: _layout(space.space[key]) for key in keys}
    with _silent():
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={key: _place(space.space[key], point[key]) for key in keys}, distributions=layout, value=0.0
                )
                for point in points
            ]
        )
    return study


def _layout(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution([encode(dimension, value) for value in dimension.choice])
    return FloatDistribution(*(_place(dimension, end) for end in dimension.bounds))


def _place(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension, Choice):
        return encode(dimension, value)
    return math.log(value) if dimension.log else float(value)


@contextmanager
def _silent() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def best(importance: Sequence[Importance]) -> Importance:
    """The one to go by: that of the finished trials where it tells anything, else that of all."""
    told = [one for one in importance if any(key.share is not None for key in one.keys.values())]
    return (told or list(importance))[0]


def plain(importance: Importance) -> Mapping[str, Any]:
    """As JSON holds it."""
    return {
        "evaluator": importance.evaluator,
        "basis": importance.basis,
        "trials": importance.trials,
        "keys": {
            key: {
                "share": one.share,
                "chance": one.chance,
                "trials": one.trials,
                "mattered": one.mattered if one.share is not None else None,
                "reason": one.reason or None,
            }
            for key, one in importance.keys.items()
        },
    }
