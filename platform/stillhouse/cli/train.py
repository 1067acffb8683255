"""`stillhouse train`."""

from __future__ import annotations

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption


def train(recipe: RecipeArgument, overrides: SetOption, verbose: VerboseOption = False) -> None:
    """Train the student as the recipe says, on stored scores.

    \b
    Examples:
      stillhouse train demo
      stillhouse train demo --set stages.distill.loss.temperature=4 --set scale.num_workers=2
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.train(loaded, console=open_console(), verbose=verbose)
