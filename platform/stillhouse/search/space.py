"""Search spaces are data: one YAML file maps dotted recipe keys to what may be drawn for them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, find_file
from stillhouse.recipe.base import Spec
from stillhouse.recipe.load import describe, set_key
from stillhouse.recipe.text import read_yaml

Point = dict[str, Any]
"""Dotted recipe key -> drawn value; only the keys whose condition holds."""


class _Dimension(Spec):
    when: dict[str, Any] = Field(default={})
    """Draw this key only where other keys have these values; a list means any of them."""


class FloatRange(_Dimension):
    """A real number between two ends, both possible."""

    bounds: tuple[float, float] = Field(alias="float")
    """The two ends."""
    log: bool = False
    """Uniform in the logarithm."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance between the values that can be drawn; None draws any."""

    @model_validator(mode="after")
    def _is_possible(self) -> FloatRange:
        _check_range(*self.bounds, self.log, self.step)
        return self

    def ends(self) -> list[Any]:
        """Values between which all others lie."""
        return list(self.bounds)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.bounds[0] <= value <= self.bounds[1] and _on_step(value - self.bounds[0], self.step)


class IntRange(_Dimension):
    """A whole number between two ends, both possible."""

    bounds: tuple[int, int] = Field(alias="int")
    """The two ends."""
    log: bool = False
    """Uniform in the logarithm."""
    step: Annotated[int, Field(ge=1)] | None = None
    """Distance between the values that can be drawn."""

    @model_validator(mode="after")
    def _is_possible(self) -> IntRange:
        _check_range(*self.bounds, self.log, self.step)
        return self

    def ends(self) -> list[Any]:
        """Values between which all others lie."""
        return list(self.bounds)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.bounds[0] <= value <= self.bounds[1] and _on_step(value - self.bounds[0], self.step)


class Choice(_Dimension):
    """One of the values given: numbers, strings, or whole mappings of the recipe."""

    choice: Annotated[tuple[Any, ...], Field(min_length=1)]
    """The values; a whole mapping may be one of them."""

    @field_validator("choice")
    @classmethod
    def _has_no_twins(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        texts = [json.dumps(value) for value in values]
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"the choice {text} stands twice")
        return values

    def ends(self) -> list[Any]:
        """All values."""
        return list(self.choice)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        return any(value == one and type(value) is type(one) for one in self.choice)


SHAPES: dict[str, type[FloatRange | IntRange | Choice]] = {"float": FloatRange, "int": IntRange, "choice": Choice}


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for kind in SHAPES if kind in value), None)
    return next((kind for kind, shape in SHAPES.items() if isinstance(value, shape)), None)


Dimension = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")] | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="expected one of {float: [lo, hi]}, {int: [lo, hi]}, {choice: [...]}",
    ),
]


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


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"impossible range [{low}, {high}]: the first end must be below the second")
    if log and low <= 0:
        raise ValueError(f"log: true needs a range above 0, found [{low}, {high}]")
    if log and step is not None:
        raise ValueError("log and step cannot be combined; leave one out")
    if step is not None and not _on_step(high - low, step):
        raise ValueError(f"the range [{low}, {high}] is not a whole number of steps of {step}")


def _on_step(distance: float, step: float | None) -> bool:
    if step is None:
        return True
    return math.isclose(distance / step, round(distance / step), abs_tol=1e-9)


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
        kind = _kind(value)
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
