"""Dotted keys: what is set is what is read, and nothing else moves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.errors import RecipeError
from stillhouse.recipe import get_key, load_recipe, override
from stillhouse.recipe.load import set_key
from stillhouse.recipe.text import parse_yaml, to_yaml

NAMES = st.text(alphabet="abcdef_", min_size=1, max_size=4)
# PyYAML itself loses a lone NEL (U+0085).
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
TREES = st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=12)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf under its dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {key: leaf for name, node in tree.items() for key, leaf in flat(node, f"{prefix}.{name}").items()}


@given(tree=st.dictionaries(NAMES, TREES, max_size=4), path=st.lists(NAMES, min_size=1, max_size=4), value=VALUES)
def test_set_key_changes_one_place(tree: dict[str, Any], path: list[str], value: Any) -> None:
    before, key = copy.deepcopy(tree), ".".join(path)
    try:
        set_key(tree, key, value, "here")
    except RecipeError:
        # Only when a part of the way is a value already.
        node: Any = before
        for part in path[:-1]:
            node = node[part]
            if not isinstance(node, dict):
                assert node is not None
                return
        raise
    node = tree
    for part in path:
        node = node[part]
    assert node == value
    under = "." + key
    outside = {name: leaf for name, leaf in flat(before).items() if not (name + ".").startswith(under + ".")}
    kept = {name: leaf for name, leaf in flat(tree).items() if name in outside}
    # An empty mapping or a None on the way has become a mapping; all other leaves stand.
    on_the_way = {name for name in outside if (under + ".").startswith(name + ".")}
    assert kept == {name: leaf for name, leaf in outside.items() if name not in on_the_way}


SEARCHABLE = {
    "seed": st.integers(0, 2**31 - 1),
    "stages.distill.loss.temperature": st.floats(1e-3, 1e3),
    "stages.distill.groups.num_negatives": st.integers(1, 1000),
    "stages.distill.optimizer.learning_rate": st.floats(1e-9, 0.5),
    "student.freeze_word_embeddings": st.booleans(),
    "scale.sharding": st.sampled_from(["auto", "none", "ddp", "fsdp"]),
}


@given(st.fixed_dictionaries({}, optional=SEARCHABLE))
def test_a_recipe_holds_what_was_set(drawn: dict[str, Any]) -> None:
    recipe = load_recipe("demo")
    changed = override(recipe, drawn)
    for key in SEARCHABLE:
        assert get_key(changed, key) == drawn.get(key, get_key(recipe, key))


@given(tree=st.dictionaries(NAMES, TREES, max_size=4))
@example(tree={"a": "1e5", "b": "1_0.5e-3", "c": "1e", "d": 1e-6, "e": "1"})
def test_yaml_out_and_in(tree: dict[str, Any]) -> None:
    assert parse_yaml(to_yaml(tree), "here") == tree


@pytest.mark.parametrize("key", ["", ".", "seed.", ".seed"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with pytest.raises(RecipeError):
        override(load_recipe("demo"), {key: 1})
