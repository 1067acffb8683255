"""What can be known to fail is refused before anything is spent."""

from __future__ import annotations

from pathlib import Path

from stillhouse.errors import CollectionError, RecipeError
from stillhouse.evaluation.measures import parse_measures
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.tree import ScoresTeacher
from stillhouse.search.check import check_space
from stillhouse.search.space import SearchSpace, load_space

IN_TRIALS = ("student", "stages", "seed", "scale")
"""Parts of a recipe that a trial follows; what comes before them is made once."""


def check(recipe: Recipe) -> None:
    """Measures, score files, baselines and the search space of a recipe; RecipeError or CollectionError in one line."""
    parse_measures(recipe.evaluation.measures)
    for name, teacher in recipe.teachers.items():
        if isinstance(teacher, ScoresTeacher) and not Path(teacher.scores).is_file():
            raise CollectionError(f"teachers.{name}.scores: {teacher.scores}: no such file")
    check_baselines(recipe)
    if recipe.search is not None:
        searched_space(recipe)


def check_baselines(recipe: Recipe) -> None:
    """Every baseline is a recipe, and changes stages that are there."""
    for name, changes in recipe.baselines.items():
        stages = override(recipe, changes).stages
        if "stages" not in changes and stages.keys() != recipe.stages.keys():
            new = ", ".join(stages.keys() - recipe.stages.keys())
            raise RecipeError(f"baselines.{name}: no stage {new} in the recipe; it has {', '.join(recipe.stages)}")


def searched_space(recipe: Recipe) -> tuple[SearchSpace, Recipe]:
    """The recipe's search space with its number of trials, and the recipe of a trial; both checked."""
    if recipe.search is None:
        raise RecipeError(f"recipe {recipe.name}: search is missing; name a search space there, or use --space")
    space = load_space(recipe.search.space)
    if recipe.search.trials is not None:
        space = space.model_copy(update={"trials": recipe.search.trials})
    for key in space.space:
        if key.partition(".")[0] not in IN_TRIALS:
            raise RecipeError(
                f"{recipe.search.space}: {key}: not searchable; trials follow {', '.join(IN_TRIALS)} only"
            )
    trial_recipe = override(recipe, recipe.search.overrides)
    check_space(space, trial_recipe)
    return space, trial_recipe
