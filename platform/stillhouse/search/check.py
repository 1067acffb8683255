"""Does a search space fit a recipe? Asked before anything is spent."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, get_key, override
from stillhouse.recipe.load import set_key
from stillhouse.search.space import Dimension, Point, SearchSpace, holds, parent_key

LATENCY = "latency_ms"
"""Objective besides the recipe's measures: median time of one query with its candidates, milliseconds."""


def check_space(space: SearchSpace, recipe: Recipe, place: str = "search space") -> None:
    """Raise RecipeError, in one line, for the first thing in the space that the recipe cannot take.

    Every key must exist where it is drawn, and every end of every range and every choice must give a valid recipe.
    """
    for metric in space.metrics:
        if metric not in (*recipe.evaluation.measures, LATENCY):
            measures = ", ".join((*recipe.evaluation.measures, LATENCY))
            raise RecipeError(f"{place}: metric {metric} is not measured by recipe {recipe.name}; it gives {measures}")
    for key, dimension in space.space.items():
        _check_key(space, key, dimension, recipe, place)
    for number, point in enumerate(space.start, start=1):
        _valid(recipe, point, f"{place}: start point {number}")


def _check_key(space: SearchSpace, key: str, dimension: Dimension, recipe: Recipe, place: str) -> None:
    others = witness(space, key, recipe)
    if others is None:
        raise RecipeError(f"{place}: {key}: never drawn, no choice in the space or recipe {recipe.name} gives `when`")
    base = _valid(recipe, others, f"{place}: {key}")
    try:
        get_key(base, key)
    except RecipeError:
        raise RecipeError(f"{place}: {key}: no such key in recipe {recipe.name}{_hint(base, key)}") from None
    for value in dimension.ends():
        _valid(base, {key: value}, f"{place}: {key}: {value!r} is not possible")


def _valid(recipe: Recipe, point: Point, place: str) -> Recipe:
    try:
        return override(recipe, point)
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from None


def witness(space: SearchSpace, key: str, recipe: Recipe) -> Point | None:
    """Values of other keys under which `key` is drawn; None where there are none."""
    when = space.space[key].when
    point: Point = {}
    for parent in dict.fromkeys(found for name in when if (found := parent_key(space, name)) is not None):
        above = witness(space, parent, recipe)
        if above is None:
            return None
        concerned = {name: wanted for name, wanted in when.items() if parent_key(space, name) == parent}
        for value in _possible(space.space[parent], concerned.get(parent)):
            if holds(concerned, _plain(recipe, above | {parent: value})):
                point |= above | {parent: value}
                break
    return point if holds(when, _plain(recipe, point)) else None


def _possible(dimension: Dimension, wanted: Any) -> list[Any]:
    values = wanted if isinstance(wanted, list) else [wanted]
    return [*dimension.ends(), *(value for value in values if dimension.has(value))]


def _plain(recipe: Recipe, point: Point) -> dict[str, Any]:
    tree: dict[str, Any] = recipe.model_dump(mode="json")
    for key, value in point.items():
        set_key(tree, key, value, "search space")
    return tree


def _hint(recipe: Recipe, key: str) -> str:
    close = difflib.get_close_matches(key, list(_keys(recipe.model_dump(mode="json"))), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
