"""Search spaces are data: one YAML file maps dotted recipe keys to what may be drawn for them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, find_file
from stillhouse.recipe.base import Spec
from stillhouse.recipe.load import describe, set_key
from stillhouse.recipe.text import read_yaml
from stillhouse.search.dimensions import SHAPES, Choice, Dimension, FloatRange, IntRange, kind_of

Point = dict[str, Any]
"""Dotted recipe key -> drawn value; only the keys whose condition holds."""


COSTS = ("latency_ms", "parameters", "bytes_per_doc")
"""Objectives besides the recipe's measures, measured once, at the end of a trial (`training.costs`): milliseconds of
one query with 1,000 documents, parameters, bytes of a document's representation."""

SamplerName = Literal["tpe", "random", "grid", "gp", "cmaes", "nsgaii"]
SchedulerName = Literal["asha", "median", "hyperband", "none"]
NO_SCHEDULERS = {
    "pbt": "changes values in mid-training, so its winner is a history of values that no recipe can train again; "
    "use asha",
}
"""Names that a user may try -> why there is none."""


class SamplerSpec(Spec):
    """How points are drawn (Optuna's samplers; `grid` takes every combination once)."""

    name: SamplerName = "tpe"
    """gp and nsgaii learn only about keys without `when`; cmaes draws numbers without `when`, at least two."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Equal seeds draw equal points from equal results."""


class SchedulerSpec(Spec):
    """Which trials are stopped early, judged at their dev evaluations (rungs)."""

    name: SchedulerName = "asha"
    """asha, hyperband (asha with later rungs for some trials), median, or none."""
    grace: Annotated[int, Field(ge=1)] = 1
    """Evaluations that every trial gets."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3
    """One trial in this many goes on at a rung (asha, hyperband)."""


def _name_alone(value: Any) -> Any:
    name = value.get("name") if isinstance(value, dict) else value
    if isinstance(name, str) and name in NO_SCHEDULERS:
        raise ValueError(f"scheduler {name} {NO_SCHEDULERS[name]}")
    return {"name": value} if isinstance(value, str) else value


Mode = Literal["max", "min"]


class SearchSpace(Spec):
    """A search: what is drawn, by what it is judged, how much may be spent."""

    metric: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = "nDCG@10"
    """Measure on dev; two of them give a Pareto front."""
    mode: Mode | Annotated[tuple[Mode, ...], Field(min_length=1, max_length=2)] = "max"
    """Whether more is better, or less; one for each measure."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted key of a trial's recipe -> what may be drawn for it, in this order."""
    sampler: Annotated[SamplerSpec, BeforeValidator(_name_alone, json_schema_input_type=SamplerSpec | SamplerName)] = (
        SamplerSpec()
    )
    """How points are drawn; a name alone is enough."""
    scheduler: Annotated[
        SchedulerSpec, BeforeValidator(_name_alone, json_schema_input_type=SchedulerSpec | SchedulerName)
    ] = SchedulerSpec()
    """Which trials are stopped early; a name alone is enough."""
    trials: Annotated[int, Field(ge=1)] = 24
    """Points that are tried; the recipe or the command line may say otherwise."""
    time_budget_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which nothing new starts and what runs is stopped; None has no limit."""
    start: tuple[dict[str, Any], ...] = ()
    """Points that are tried first."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Train each point with this many seeds, the recipe's and those after it; a trial's measures are their means."""
    warm_start: str | None = None
    """Id of an earlier study whose trials the sampler learns from; they are no trials of this one."""
    recipes: tuple[str, ...] = ()
    """Recipes that the space is written for, as a hint: it may fit others."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The measures, in order."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The direction of each measure."""
        return (self.mode,) if isinstance(self.mode, str) else self.mode

    @model_validator(mode="after")
    def _fits_together(self) -> SearchSpace:
        for problem in _problems(self):
            raise ValueError(problem)
        return self


def _problems(space: SearchSpace) -> list[str]:
    """What cannot be combined, one line each."""
    found = []
    kinds = {type(dimension) for dimension in space.space.values()}
    name = space.sampler.name
    if len(space.metrics) != len(space.modes):
        found.append(f"metric names {len(space.metrics)} measures, mode gives {len(space.modes)}; give one for each")
    if len(set(space.metrics)) != len(space.metrics):
        found.append(f"metric: {space.metrics[0]} stands twice")
    if len(space.metrics) == 1 and space.metrics[0] in COSTS and space.scheduler.name != "none":
        found.append(
            f"{space.metrics[0]} is measured once, at the end: {space.scheduler.name} has nothing to judge; "
            "write `scheduler: none`"
        )
    if len(space.metrics) > 1 and space.scheduler.name != "none":
        found.append(f"two objectives cannot be stopped early by {space.scheduler.name}; write `scheduler: none`")
    if len(space.metrics) > 1 and name == "cmaes":
        found.append("sampler cmaes has one objective only; use tpe, gp or nsgaii")
    if name == "cmaes" and (Choice in kinds or any(one.when for one in space.space.values())):
        found.append("sampler cmaes draws unconditional numbers only; use tpe for `choice` and `when`")
    if name == "cmaes" and len(space.space) == 1:
        found.append("sampler cmaes needs two numbers or more; use gp or tpe for one")
    if space.seeds > 1 and space.scheduler.name != "none":
        found.append("seeds are trained one after another, only their mean can be judged; write `scheduler: none`")
    if name == "grid":
        found += [
            f"sampler grid needs values to count: give {key} a `choice` or a `step`"
            for key, one in space.space.items()
            if (isinstance(one, FloatRange) and one.step is None) or (isinstance(one, IntRange) and one.log)
        ]
    found += _when_problems(space) + _start_problems(space)
    return found


def _when_problems(space: SearchSpace) -> list[str]:
    keys = list(space.space)
    return [
        f"{key}: `when` names {name}, which must stand above it"
        for number, key in enumerate(keys)
        for name in space.space[key].when
        if any(decides(later, name) for later in keys[number:])
    ]


def _start_problems(space: SearchSpace) -> list[str]:
    found = []
    for number, point in enumerate(space.start, start=1):
        for key, value in point.items():
            dimension = space.space.get(key)
            if dimension is None:
                found.append(f"start point {number}: {key} is not in the space")
            elif not dimension.has(value):
                found.append(f"start point {number}: {key} cannot be {value!r}; it is drawn from {dimension.ends()}")
    return found


def decides(key: str, name: str) -> bool:
    """Whether a key of the space decides the value at a dotted key: it is that key, or a mapping that holds it."""
    return name == key or name.startswith(f"{key}.")


def drawn_at_random(space: SearchSpace) -> tuple[str, ...]:
    """Keys that the sampler cannot learn about: gp and nsgaii know what every trial has, and draw the rest evenly.

    Those are keys with `when`. tpe learns about each key from the trials that have it; random and grid learn nothing.
    """
    if space.sampler.name not in ("gp", "nsgaii"):
        return ()
    return tuple(key for key, dimension in space.space.items() if dimension.when)


def load_space(name: str | Path) -> SearchSpace:
    """Read a search space by path or shipped name. Raises RecipeError with one line."""
    path = find_file(str(name), "search_spaces")
    return make_space(read_yaml(path), place=str(path))


def make_space(tree: Any, place: str = "search space") -> SearchSpace:
    """A checked search space from plain data."""
    if not isinstance(tree, dict):
        raise RecipeError(f"{place}: expected a mapping of keys, found {type(tree).__name__}")
    try:
        _check_dimensions(tree.get("space"), place)
        return SearchSpace.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise RecipeError(f"{place}: {describe(error, tree, SearchSpace)}") from None
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}") from None


def _check_dimensions(dimensions: Any, place: str) -> None:
    """Validate each dimension as what it means to be, so that errors name no other kind."""
    for key, value in dimensions.items() if isinstance(dimensions, dict) else ():
        kind = kind_of(value)
        if kind is None:
            continue  # said by the validation of the whole
        shape = SHAPES[kind]
        try:
            shape.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise RecipeError(f"{place}: space.{key}: {describe(error, value, shape)}") from None


def draw(space: SearchSpace, recipe: Recipe, pick: Callable[[str, Any], Any]) -> Point:
    """One point: `pick(key, dimension)` chooses each value, in order; keys whose condition fails are left out."""
    tree = recipe.model_dump(mode="json")
    point: Point = {}
    for key, dimension in space.space.items():
        if holds(dimension.when, tree):
            point[key] = pick(key, dimension)
            # A copy: a later key may lie inside the value.
            set_key(tree, key, copy.deepcopy(point[key]), "search space")
    return point


def holds(when: Mapping[str, Any], tree: Mapping[str, Any]) -> bool:
    """Whether the plain recipe has these values at these dotted keys."""
    return all(lookup(tree, key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in when.items())


def lookup(tree: Any, key: str) -> Any:
    """The value at a dotted key of plain data; None where there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree
