"""A search space in Optuna's words: points, samplers, and every point of a grid."""

from __future__ import annotations

import itertools
import json
import warnings
from functools import partial
from importlib.util import find_spec
from typing import Any

import optuna

from stillhouse.artifacts import stable_hash
from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe
from stillhouse.search.dimensions import Choice, Dimension, IntRange
from stillhouse.search.space import Point, SearchSpace, draw

MAX_GRID = 10_000


def encode(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna stores it; choices that are no plain values go by their JSON text."""
    return json.dumps(value) if _by_text(dimension) else value


def decode(dimension: Dimension, stored: Any) -> Any:
    """A value as the recipe takes it."""
    return json.loads(stored) if _by_text(dimension) else stored


def _by_text(dimension: Dimension) -> bool:
    return isinstance(dimension, Choice) and any(isinstance(value, dict | list) for value in dimension.choice)


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """What a stored value was drawn from."""
    if isinstance(dimension, Choice):
        return optuna.distributions.CategoricalDistribution([encode(dimension, value) for value in dimension.choice])
    low, high = dimension.bounds
    if isinstance(dimension, IntRange):
        return optuna.distributions.IntDistribution(low, high, log=dimension.log, step=dimension.step or 1)
    return optuna.distributions.FloatDistribution(low, high, log=dimension.log, step=dimension.step)


def encode_point(space: SearchSpace, point: Point) -> dict[str, Any]:
    """A point as Optuna stores it."""
    return {key: encode(space.space[key], value) for key, value in point.items()}


def ask(study: optuna.Study, space: SearchSpace, recipe: Recipe) -> tuple[optuna.Trial, Point]:
    """A new trial and its point.

    The sampler is made anew for each trial, seeded by the search's seed and the trial's number: what is drawn
    depends on the trials told so far and on nothing that a kill could lose.
    """
    study.sampler = make_sampler(space, len(study.get_trials(deepcopy=False)))
    trial = study.ask()

    def pick(key: str, dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            choices = [encode(dimension, value) for value in dimension.choice]
            return decode(dimension, trial.suggest_categorical(key, choices))
        low, high = dimension.bounds
        if isinstance(dimension, IntRange):
            return trial.suggest_int(key, low, high, step=dimension.step or 1, log=dimension.log)
        return trial.suggest_float(key, low, high, step=dimension.step, log=dimension.log)

    return trial, draw(space, recipe, pick)


def make_sampler(space: SearchSpace, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for the trial of this number. Raises SearchError if a package is missing."""
    seed = int(stable_hash([space.sampler.seed, number], 8), 16)
    # The library's ten random trials would be most of a small search.
    startup = max(4, min(10, space.trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match space.sampler.name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
            case "cmaes":
                if find_spec("cmaes") is None:
                    raise SearchError("sampler cmaes needs the package cmaes: pip install cmaes")
                return optuna.samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=startup, warn_independent_sampling=False
                )
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, space.trials // 4)))
            case _:
                return optuna.samplers.RandomSampler(seed=seed)


def grid(space: SearchSpace, recipe: Recipe) -> list[Point]:
    """Every point of the space, in order; conditional keys only where they are drawn."""
    values = {key: _values(dimension) for key, dimension in space.space.items()}
    points: dict[str, Point] = {}
    for combination in itertools.islice(itertools.product(*values.values()), MAX_GRID + 1):
        chosen = dict(zip(values, combination, strict=True))
        point = draw(space, recipe, partial(_chosen, chosen))
        points.setdefault(json.dumps(point), point)
        if len(points) > MAX_GRID:
            raise SearchError(f"sampler grid: more than {MAX_GRID} combinations; use fewer values or another sampler")
    return list(points.values())


def _chosen(values: Point, key: str, dimension: Dimension) -> Any:
    return values[key]


def _values(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, Choice):
        return list(dimension.choice)
    low, high = dimension.bounds
    step = dimension.step or 1
    return [low + number * step for number in range(round((high - low) / step) + 1)]
