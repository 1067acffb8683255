"""The teacher's scores of a recipe's candidates, into the score store.

    python jobs/score.py jobs/recipes/demo.yaml --set seed=1

On a cluster: ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \
    python jobs/score.py jobs/recipes/demo.yaml
"""

from __future__ import annotations

from stillhouse.cli import main_of
from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption, VerboseOption
from stillhouse.recipe import load_recipe


def main(recipe: RecipeArgument, overrides: SetOption, verbose: VerboseOption = False) -> None:
    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse import pipeline

    pipeline.score(loaded, console=open_console(), verbose=verbose)


if __name__ == "__main__":
    raise SystemExit(main_of(main))
