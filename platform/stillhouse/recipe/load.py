"""A recipe from a file, with dotted overrides; every mistake is one line that names file, key and what was expected."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from stillhouse.errors import RecipeError
from stillhouse.recipe.presets import expand_presets
from stillhouse.recipe.text import parse_yaml, read_yaml
from stillhouse.recipe.tree import Recipe

_CHECKOUT = Path(__file__).parents[3]
_PACKAGE = Path(__file__).parents[1]


def find_file(name: str, folder: str) -> Path:
    """The YAML file a user means: a path, or a name in the checkout's or the package's `folder`."""
    places = [
        Path(name),
        _CHECKOUT / folder / f"{name}.yaml",
        _PACKAGE / "shipped" / Path(folder).name / f"{name}.yaml",
        _PACKAGE / "shipped" / Path(folder).name / Path(name).name,
    ]
    for place in places:
        if place.is_file():
            return place
    shipped = ", ".join(path.stem for path in shipped_files(folder))
    raise RecipeError(f"{name}: no such file; shipped in {folder}: {shipped}")


def shipped_files(folder: str) -> list[Path]:
    """The YAML files that come with stillhouse, by name."""
    for place in (_CHECKOUT / folder, _PACKAGE / "shipped" / Path(folder).name):
        if place.is_dir():
            return sorted(place.glob("*.yaml"))
    return []


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path or shipped name; `overrides` are `dotted.key=value` strings, later ones win."""
    path = find_file(str(name), "jobs/recipes")
    tree = read_yaml(path)
    return make_recipe(tree, parse_overrides(overrides), place=str(path))


def make_recipe(tree: Any, overrides: Mapping[str, Any] | None = None, place: str = "recipe") -> Recipe:
    """A checked recipe from plain data and dotted overrides."""
    if not isinstance(tree, dict):
        raise RecipeError(f"{place}: expected a mapping of keys, found {type(tree).__name__}")
    tree = copy.deepcopy(tree)
    for key, value in (overrides or {}).items():
        set_key(tree, key, copy.deepcopy(value), place)
    tree = expand_presets(tree, place)
    try:
        # Through JSON: strict types, and lists are taken where tuples are declared.
        return Recipe.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise RecipeError(f"{place}: {describe(error, tree, Recipe)}") from None
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}") from None


def override(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The same recipe with some dotted keys changed."""
    return make_recipe(recipe.model_dump(mode="json"), overrides, place=f"recipe {recipe.name}")


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1"]` -> `{"a.b": 1}`; values are YAML."""
    parsed: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {text}: expected dotted.key=value")
        parsed[key.strip()] = parse_yaml(value, f"--set {key}") if value.strip() else None
    return parsed


def set_key(tree: dict[str, Any], key: str, value: Any, place: str) -> None:
    """Set a dotted key in plain data; missing levels are made, and checked later with the rest."""
    *parents, leaf = key.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise RecipeError(f"{place}: {key}: {'.'.join(parents[: depth + 1])} is a value, it has no keys")
    node[leaf] = value


def get_key(recipe: Recipe, key: str) -> Any:
    """The value at a dotted key of a recipe."""
    node: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise RecipeError(f"{key}: no such key in recipe {recipe.name}")
        node = node[part]
    return node


def describe(error: ValidationError, tree: Any, model: type[BaseModel]) -> str:
    """One line for the first mistake: key, what is wrong, what was expected."""
    first = error.errors(include_url=False)[0]
    path, owner = _locate(first["loc"], tree, model)
    key = ".".join(path)
    kind, message = first["type"], first["msg"]
    if kind == "extra_forbidden":
        known = sorted(field.alias or name for name, field in owner.model_fields.items()) if owner else []
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if kind == "missing":
        return f"{key}: missing; give it a value"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = first.get("ctx", {})
        return f"{key}: unknown or missing {context.get('discriminator', 'kind')}; {message[0].lower()}{message[1:]}"
    if kind == "value_error":
        return f"{key + ': ' if key else ''}{message.removeprefix('Value error, ')}"
    return f"{key}: {message[0].lower()}{message[1:]}, found {first.get('input')!r}"


def _locate(loc: Sequence[int | str], tree: Any, model: type[BaseModel]) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted path of an error without the tags of unions, and the class that owns its last key."""
    path: list[str] = []
    node: Any = tree
    annotation: Any = model
    owner: type[BaseModel] | None = model
    for part in loc:
        chosen = _choose(annotation, node)
        if chosen is not None:
            owner = chosen
        in_node = isinstance(node, dict) and part in node
        is_field = chosen is not None and part in chosen.model_fields
        if not in_node and not is_field and chosen is not None and not isinstance(part, int):
            continue  # the tag of a union
        path.append(str(part))
        field = chosen.model_fields.get(str(part)) if chosen else None
        if field is not None:
            annotation = field.rebuild_annotation()
        elif chosen is None:
            arguments = get_args(annotation)
            annotation = arguments[-1] if arguments else None
        node = node.get(part) if isinstance(node, dict) else None
    return path, owner


def _choose(annotation: Any, node: Any) -> type[BaseModel] | None:
    """The model class that plain data at a place of the tree is meant to be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Annotated:
        return _choose(get_args(annotation)[0], node)
    if get_origin(annotation) in (dict, tuple):
        return None
    choices = [found for argument in get_args(annotation) if (found := _choose(argument, node))]
    if len(choices) == 1:
        return choices[0]
    values = {str(value) for value in node.values() if isinstance(value, str)} if isinstance(node, dict) else set()
    for choice in choices:
        for name in ("name", "ranker"):
            field = choice.model_fields.get(name)
            if field is not None and set(get_args(field.annotation)) & values:
                return choice
    for choice in choices:
        needed = {name for name, field in choice.model_fields.items() if field.is_required()}
        if isinstance(node, dict) and needed <= node.keys():
            return choice
    return choices[0] if choices else None
