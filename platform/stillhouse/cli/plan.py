"""`stillhouse plan`."""

from __future__ import annotations

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption


def plan(recipe: RecipeArgument, overrides: SetOption) -> None:
    """Say what a recipe would cost before it is run.

    Pairs new and stored, time from two timed batches, bytes, device-hours.

    \b
    Examples:
      stillhouse plan demo
      stillhouse plan my.yaml --set candidates.depth=100
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.plan(loaded, console=open_console())
