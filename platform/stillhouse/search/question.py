"""What a study asks, kept beside its trials: the space, and the recipe that its trials change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from stillhouse.artifacts import write_json
from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe, make_recipe
from stillhouse.search.space import SearchSpace, make_space

FILE = "question.json"


class Question(NamedTuple):
    """A search before its first trial."""

    recipe: Recipe
    """What trials change: overrides that hold in trials only are in it."""
    space: SearchSpace


def write_question(folder: Path, recipe: Recipe, space: SearchSpace) -> None:
    """Keep recipe and space in a study's folder; a larger budget replaces the smaller one."""
    tree = {"recipe": recipe.model_dump(mode="json"), "space": space.model_dump(mode="json", by_alias=True)}
    # The order of stages counts, and that of the keys of a space.
    write_json(folder / FILE, tree, sort_keys=False)


def read_question(folder: Path) -> Question:
    """Raises SearchError where a study has none."""
    path = folder / FILE
    if not path.exists():
        raise SearchError(
            f"{folder}: no {FILE}, which says what was searched; the command that made the study writes it"
        )
    tree = json.loads(path.read_text())
    return Question(make_recipe(tree["recipe"], place=str(path)), make_space(tree["space"], place=str(path)))
