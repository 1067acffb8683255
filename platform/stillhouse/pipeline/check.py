"""What can be known to fail is refused before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stillhouse.errors import CollectionError, RecipeError
from stillhouse.evaluation.measures import parse_measures
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.tree import ScoresTeacher, StageSpec
from stillhouse.scores.client import check_endpoint
from stillhouse.search.check import check_space
from stillhouse.search.space import SearchSpace, load_space
from stillhouse.training.rules import check_stages

IN_TRIALS = ("student", "stages", "seed", "scale")
"""Parts of a recipe that a trial follows; what comes before them is made once."""


def check(recipe: Recipe) -> None:
    """Measures, score files, baselines and the search space of a recipe; RecipeError or CollectionError in one line."""
    parse_measures(recipe.evaluation.measures)
    for name, teacher in recipe.teachers.items():
        if isinstance(teacher, EndpointTeacher):
            check_endpoint(teacher, f"teachers.{name}")
        elif not isinstance(teacher, ScoresTeacher):
            _check_files(teacher.stages, f"teachers.{name}.stages")
        elif not Path(teacher.scores).is_file():
            raise CollectionError(f"teachers.{name}.scores: {teacher.scores}: no such file")
    check_stages_of(recipe)
    _check_files(recipe.stages, "stages")
    for name, changes in recipe.baselines.items():
        _check_files(override(recipe, changes).stages, f"baselines.{name}: stages")
    if recipe.search is not None:
        searched_space(recipe)


def check_stages_of(recipe: Recipe) -> None:
    """Groups, losses and rankers of the teachers', the student's and the baselines' stages; no file is looked at."""
    for name, teacher in recipe.teachers.items():
        if not isinstance(teacher, ScoresTeacher | EndpointTeacher):
            check_stages(teacher.stages, teacher.ranker, taught=False, live=False, place=f"teachers.{name}.stages")
    _check_student(recipe, "")
    for name, changes in recipe.baselines.items():
        other = override(recipe, changes)
        if "stages" not in changes and other.stages.keys() != recipe.stages.keys():
            new = ", ".join(other.stages.keys() - recipe.stages.keys())
            raise RecipeError(f"baselines.{name}: no stage {new} in the recipe; it has {', '.join(recipe.stages)}")
        _check_student(other, f"baselines.{name}: ")


def _check_student(recipe: Recipe, place: str) -> None:
    teaching = recipe.teaching()
    files = {name: teacher for name, teacher in teaching.items() if isinstance(teacher, ScoresTeacher)}
    live = not any(isinstance(teacher, ScoresTeacher | EndpointTeacher) for teacher in teaching.values())
    place = f"{place}stages"
    check_stages(recipe.stages, recipe.student.ranker, taught=bool(teaching), live=live, place=place)
    for name, stage in recipe.stages.items():
        ordered = [teacher for teacher, spec in files.items() if spec.scale == "order"]
        if stage.groups.false_negative_margin is not None and ordered:
            raise RecipeError(
                f"{place}.{name}.groups.false_negative_margin: a margin needs magnitudes, but the scores of teacher "
                f"{ordered[0]} give only an order; leave it out"
            )


def _check_files(stages: Mapping[str, StageSpec], place: str) -> None:
    for name, stage in stages.items():
        path = stage.groups.triples
        if path is not None and not Path(path).is_file():
            raise CollectionError(f"{place}.{name}.groups.triples: {path}: no such file")


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
