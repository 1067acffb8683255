"""`stillhouse run`."""

from __future__ import annotations

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption


def run(recipe: RecipeArgument, overrides: SetOption, verbose: VerboseOption = False) -> None:
    """Run the whole recipe; what is done already is not done again.

    Candidates, teacher, scores, search, students, evaluation and the table, each kept under what it depends on.

    \b
    Examples:
      stillhouse run demo
      stillhouse run my.yaml --set output.path=runs/second --set seed=1
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.run(loaded, console=open_console(), verbose=verbose)
