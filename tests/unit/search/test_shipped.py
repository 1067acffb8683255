"""Every shipped search space: the recipes it claims to fit, what is drawn from it, and what an editor is told."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest

from stillhouse.losses import LOSSES
from stillhouse.recipe import Recipe, load_recipe, override, shipped_files
from stillhouse.search import SearchSpace, check_space, load_space
from stillhouse.search.sampling import ask
from stillhouse.training.rules import check_stages

SPACES = shipped_files("search_spaces")
recipe_of = cache(load_recipe)


def trial_recipe(name: str) -> Recipe:
    """What a trial of the recipe starts from."""
    recipe = recipe_of(name)
    return override(recipe, recipe.search.overrides) if recipe.search else recipe


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_twenty_draws_fit_every_recipe_that_the_space_names(path: Path) -> None:
    space = load_space(path.stem)
    assert space.recipes, "a space names the shipped recipes it is written for"
    drawn: set[str] = set()
    for name in space.recipes:
        recipe = trial_recipe(name)
        check_space(space, recipe, str(path))
        study = optuna.create_study(directions=["maximize"] * len(space.metrics))
        for _ in range(20):
            trial, point = ask(study, space, recipe)
            student = override(recipe, point)
            check_stages(student.stages, student.student.ranker, taught=True, live=True, place=path.stem)
            study.tell(trial, [0.5] * len(space.metrics))
            drawn |= set(point)
    assert drawn == set(space.space)


@pytest.mark.parametrize("name", [path.stem for path in shipped_files("jobs/recipes")])
def test_a_recipe_s_own_space_claims_it(name: str) -> None:
    recipe = recipe_of(name)
    if recipe.search is not None:
        assert name in load_space(recipe.search.space).recipes


def test_every_loss_can_be_searched() -> None:
    drawn = set()
    for path in SPACES:
        for key, dimension in load_space(path.stem).space.items():
            if key.endswith(".loss"):
                drawn |= {choice["name"] for choice in dimension.ends()}
    assert drawn == set(LOSSES)


def test_every_key_is_described_for_editors() -> None:
    schema = SearchSpace.model_json_schema()

    def undescribed(node: dict[str, Any], place: str) -> list[str]:
        return [f"{place}.{name}" for name, one in node.get("properties", {}).items() if not one.get("description")]

    found = undescribed(schema, "space")
    for name, node in schema["$defs"].items():
        found += undescribed(node, name)
    assert found == []
