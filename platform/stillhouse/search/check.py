"""Does a search space fit a recipe? Asked before anything is spent."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, get_key, override
from stillhouse.search.dimensions import Dimension
from stillhouse.search.space import COSTS, Point, SearchSpace, decides, draw

MAX_COMBINATIONS = 1000

REPS_OF = ("dual_encoder", "colbert", "prettr", "tk")
"""Architectures whose documents have a representation of their own, with `bytes_per_doc`."""


def check_space(space: SearchSpace, recipe: Recipe, place: str = "search space") -> None:
    """Raise RecipeError, in one line, for the first thing in the space that the recipe cannot take.

    Every key must exist where it is drawn, and every end of every range and every choice must give a valid recipe.
    """
    _check_metrics(space, recipe, place)
    if space.seeds > 1 and _many_workers(space, recipe):
        raise RecipeError(f"{place}: seeds need trials of one worker; set scale.num_workers to 1")
    for key, dimension in space.space.items():
        _check_key(space, key, dimension, recipe, place)
    for number, point in enumerate(space.start, start=1):
        _valid(recipe, point, f"{place}: start point {number}")


def _check_metrics(space: SearchSpace, recipe: Recipe, place: str) -> None:
    for metric in space.metrics:
        if metric not in (*recipe.evaluation.measures, *COSTS):
            measures = ", ".join((*recipe.evaluation.measures, *COSTS))
            raise RecipeError(f"{place}: metric {metric} is not measured by recipe {recipe.name}; it gives {measures}")
        if metric in COSTS and _many_workers(space, recipe):
            raise RecipeError(f"{place}: {metric} is measured in trials of one worker; set scale.num_workers to 1")
    if "bytes_per_doc" in space.metrics:
        for ranker in _rankers(space, recipe):
            if ranker not in REPS_OF:
                raise RecipeError(
                    f"{place}: bytes_per_doc: documents have no representation under {ranker}; use latency_ms"
                )


def _many_workers(space: SearchSpace, recipe: Recipe) -> bool:
    return recipe.scale.num_workers > 1 or any(decides(key, "scale.num_workers") for key in space.space)


def _rankers(space: SearchSpace, recipe: Recipe) -> set[str]:
    """Architectures that the space may draw, or the recipe's."""
    if "student.ranker" in space.space:
        return set(space.space["student.ranker"].ends())
    if "student" in space.space:
        return {student["ranker"] for student in space.space["student"].ends()}
    return {recipe.student.ranker}


def _check_key(space: SearchSpace, key: str, dimension: Dimension, recipe: Recipe, place: str) -> None:
    found = witnesses(space, key, recipe)
    if not found:
        raise RecipeError(f"{place}: {key}: never drawn, no choice in the space or recipe {recipe.name} gives `when`")
    for others in found:
        base = _valid(recipe, others, f"{place}: {key}")
        where = f" with {json.dumps(others)}" if others else ""
        try:
            get_key(base, key)
        except RecipeError:
            hint = _hint(base, key)
            raise RecipeError(f"{place}: {key}: no such key in recipe {recipe.name}{where}{hint}") from None
        for value in dimension.ends():
            _valid(base, {key: value}, f"{place}: {key}: {value!r} is not possible{where}")


def _valid(recipe: Recipe, point: Point, place: str) -> Recipe:
    try:
        return override(recipe, point)
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from None


def witnesses(space: SearchSpace, key: str, recipe: Recipe) -> list[Point]:
    """Each combination of other keys' values under which `key` is drawn, of those that decide about it."""
    deciders = _deciders(space, key)
    part = space.model_copy(update={"space": {name: space.space[name] for name in (*deciders, key)}})
    values = [_possible(space, name) for name in deciders]
    found: dict[str, Point] = {}
    for combination in itertools.islice(itertools.product(*values), MAX_COMBINATIONS):
        chosen = {**dict(zip(deciders, combination, strict=True)), key: None}
        point = draw(part, recipe, partial(_chosen, chosen))
        if key in point:
            del point[key]
            found[json.dumps(point)] = point
    return list(found.values())


def _deciders(space: SearchSpace, key: str) -> list[str]:
    """The keys that `key` lies in or that its conditions look at, and theirs, in the order of the space."""
    looked_at = (key, *space.space[key].when)
    direct = {one for one in space.space if one != key and any(decides(one, name) for name in looked_at)}
    every = direct | {above for name in direct for above in _deciders(space, name)}
    return [name for name in space.space if name in every]


def _possible(space: SearchSpace, key: str) -> list[Any]:
    """Values of a key at which conditions may change: its ends, and what conditions ask of it."""
    dimension = space.space[key]
    asked = [one.when[key] for one in space.space.values() if key in one.when]
    flat = [value for wanted in asked for value in (wanted if isinstance(wanted, list) else [wanted])]
    return [*dimension.ends(), *(value for value in flat if dimension.has(value))]


def _chosen(values: Point, key: str, dimension: Dimension) -> Any:
    return values[key]


def _hint(recipe: Recipe, key: str) -> str:
    close = difflib.get_close_matches(key, list(_keys(recipe.model_dump(mode="json"))), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
