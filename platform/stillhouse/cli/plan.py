"""`stillhouse plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption


def plan(
    recipe: RecipeArgument,
    overrides: SetOption,
    names_only: Annotated[
        bool, typer.Option("--names-only", help="Only resolve what the recipe names: reads no data, loads no weights.")
    ] = False,
) -> None:
    """Say what a recipe would cost before it is run.

    Pairs new and stored, time from two timed batches, bytes, device-hours.

    \b
    Examples:
      stillhouse plan demo
      stillhouse plan my.yaml --set candidates.depth=100
      stillhouse plan menon-losses --names-only
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    if names_only:
        from stillhouse.pipeline.dry import dry_run

        for what, found in dry_run(loaded):
            typer.echo(f"{what}: {found}")
        return
    from stillhouse import pipeline

    pipeline.plan(loaded, console=open_console())
