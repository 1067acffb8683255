"""`stillhouse list`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from stillhouse.errors import RecipeError


class Kind(StrEnum):
    recipes = "recipes"
    spaces = "spaces"
    suites = "suites"
    rankers = "rankers"
    presets = "presets"
    losses = "losses"
    measures = "measures"
    schema = "schema"


_FOLDERS = {Kind.recipes: "jobs/recipes", Kind.spaces: "search_spaces", Kind.suites: "suites"}


def listing(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.recipes,
    of: Annotated[str, typer.Argument(metavar="FILE", help="For schema: recipe, space or suite.")] = "recipe",
) -> None:
    """List what can be named: recipes, rankers, losses and so on.

    \b
    Examples:
      stillhouse list recipes
      stillhouse list schema recipe > recipe.schema.json
    """
    if kind is Kind.schema:
        typer.echo(json.dumps(_schema(of), indent=2))
        return
    rows = list(_rows(kind))
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        typer.echo(f"{name:{width}}  {text}".rstrip())


def _rows(kind: Kind) -> Iterator[tuple[str, str]]:
    """Names with a line about each."""
    if kind is Kind.measures:
        from stillhouse.evaluation.measures import known_measures

        yield from known_measures()
    elif kind is Kind.presets:
        from stillhouse.recipe.presets import PRESETS

        for name, preset in PRESETS.items():
            yield name, f"{preset.backbone} ({preset.options['ranker']}; {preset.source})"
    elif kind in _FOLDERS:
        yield from _files(_FOLDERS[kind])
    else:
        from stillhouse.recipe import losses, rankers

        union, key = (rankers.RankerSpec, "ranker") if kind is Kind.rankers else (losses.ExtraLossSpec, "name")
        said = _losses() if kind is Kind.losses else {}
        for name, parameters in _choices(union, key):
            yield name, "; ".join(filter(None, (said.get(name), parameters)))


def _files(folder: str) -> Iterator[tuple[str, str]]:
    """Shipped files with their first comment."""
    from stillhouse.recipe import shipped_files

    for path in shipped_files(folder):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield path.stem, first.removeprefix("#").strip() if first.startswith("#") else ""


def _losses() -> dict[str, str]:
    """What each loss is and where it is printed."""
    from stillhouse.losses import AUXILIARY, LOSSES, AuxiliaryLoss, Loss

    known: dict[str, Loss | AuxiliaryLoss] = {**LOSSES, **AUXILIARY}
    return {name: f"{loss.description} ({loss.paper})" for name, loss in known.items()}


def _choices(union: object, key: str) -> Iterator[tuple[str, str]]:
    """The classes of a discriminated union: the name in a recipe, and their parameters with defaults."""
    from typing import get_args

    for spec in get_args(get_args(union)[0]):
        fields = {name: field for name, field in spec.model_fields.items() if name != key}
        parameters = ", ".join(
            # Escaped: a template has line breaks, and what is listed is one line each.
            name
            if field.is_required()
            else f"{name}={field.get_default(call_default_factory=True)}".replace("\n", "\\n")
            for name, field in fields.items()
        )
        yield get_args(spec.model_fields[key].annotation)[0], parameters


def _schema(of: str) -> dict[str, object]:
    if of == "recipe":
        from stillhouse.recipe import Recipe

        return Recipe.model_json_schema()
    if of == "space":
        from stillhouse.search.space import SearchSpace

        return SearchSpace.model_json_schema()
    if of == "suite":
        from stillhouse.evaluation.suite import Suite

        return Suite.model_json_schema()
    raise RecipeError(f"list schema {of}: expected recipe, space or suite")
