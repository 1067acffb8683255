"""`stillhouse tune`."""

from __future__ import annotations

from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption


def tune(
    recipe: RecipeArgument,
    overrides: SetOption,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="SPACE", help="Path or name of a search space; the recipe's own by default."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Number of trials; the space's own by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished study of this command.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Search the student's settings over the stored scores.

    \b
    Examples:
      stillhouse tune demo --trials 24
      stillhouse tune demo --space my_space.yaml --resume
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.tune(
        loaded,
        space=space,
        trials=trials,
        resume=resume,
        console=open_console(),
        verbose=verbose,
    )
