"""`stillhouse score`."""

from __future__ import annotations

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption


def score(recipe: RecipeArgument, overrides: SetOption, verbose: VerboseOption = False) -> None:
    """Score the candidates with the teacher; stored pairs are kept.

    The teacher is trained first if the recipe says so. Labelled positives are scored too.

    \b
    Examples:
      stillhouse score demo
      stillhouse score demo --set candidates.depth=50
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.score(loaded, console=open_console(), verbose=verbose)
