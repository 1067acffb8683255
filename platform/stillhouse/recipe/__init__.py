"""Recipes: one YAML file holds a whole run."""

from stillhouse.recipe.load import (
    find_file,
    get_key,
    load_recipe,
    make_recipe,
    override,
    parse_overrides,
    shipped_files,
)
from stillhouse.recipe.tree import Recipe

__all__ = [
    "Recipe",
    "find_file",
    "get_key",
    "load_recipe",
    "make_recipe",
    "override",
    "parse_overrides",
    "shipped_files",
]
