"""`stillhouse new` writes a recipe that loads as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.recipe import find_file, load_recipe
from stillhouse.recipe.text import read_yaml


@pytest.mark.parametrize(
    "collection", ["my/folder", "/data/my folder", "beir/scifact", "a: b #c", "it's", '"quoted"', "null", "x" * 300]
)
def test_the_recipe_loads(collection: str, call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "My Recipe.yaml"
    done = call("new", path, "--collection", collection)
    assert done.status == 0
    recipe = load_recipe(path)
    assert recipe.name == "my-recipe"
    assert recipe.collection.train == f"{collection}/train"
    assert recipe.collection.test == f"{collection}/test"
    assert recipe.output.path == "runs/my-recipe"
    assert recipe.search is not None
    # The keys that the shipped space draws are there.
    for key in read_yaml(find_file(recipe.search.space, "search_spaces"))["space"]:
        load_recipe(path, [f"{key}={1 if key.endswith('num_negatives') else 0.5}"])


def test_it_is_commented(call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    call("new", path, "--name", "other")
    text = path.read_text()
    assert text.count("#") >= 15
    assert load_recipe(path).name == "other"
    assert "{" not in text.partition("\n")[0]


def test_nothing_is_overwritten(call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    done = call("new", path)
    assert done.status == 1
    assert "exists already" in done.err
    assert path.read_text() == "mine"


def test_a_name_that_cannot_be_leaves_no_file(call: Callable[..., Any], tmp_path: Path) -> None:
    done = call("new", tmp_path / "mine.yaml", "--name", "A b")
    assert done.status == 1
    assert "name" in done.err
    assert not list(tmp_path.iterdir())
