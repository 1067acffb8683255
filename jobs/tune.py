"""A search over a recipe's stored scores: no teacher runs again.

    python jobs/tune.py jobs/recipes/demo.yaml --space temperature_negatives_lr --trials 8

On a cluster: ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \
    python jobs/tune.py jobs/recipes/demo.yaml
"""

from __future__ import annotations

from typing import Annotated

import typer

from stillhouse.cli import main_of
from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption
from stillhouse.recipe import load_recipe


def main(
    recipe: RecipeArgument,
    overrides: SetOption,
    space: Annotated[str | None, typer.Option(help="Path or name of a search space.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished study.")] = False,
    verbose: VerboseOption = False,
) -> None:
    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.tune(loaded, space=space, trials=trials, resume=resume, console=open_console(), verbose=verbose)


if __name__ == "__main__":
    raise SystemExit(main_of(main))
