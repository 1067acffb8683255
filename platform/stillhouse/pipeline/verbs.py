"""The single steps of a run, as verbs of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from stillhouse.artifacts import stable_hash
from stillhouse.errors import RecipeError, StillhouseError
from stillhouse.evaluation.report import Report
from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.final import System, card_text, compare_systems, first_stage, save_models, taught_by
from stillhouse.pipeline.models import Model, make_job, train_model
from stillhouse.pipeline.recording import recording
from stillhouse.pipeline.registering import register_best_trial
from stillhouse.pipeline.run import DISTILLED, prepare, show
from stillhouse.pipeline.searching import search_student
from stillhouse.pipeline.teachers import choose_teacher, dtype_name, score_training_pairs
from stillhouse.pipeline.trial_table import trial_table
from stillhouse.recipe import Recipe, override
from stillhouse.scores.identity import identity_of


def score(recipe: Recipe, *, console: Console, verbose: bool = False) -> Path:
    """Train and choose the teacher, and score the training pairs; returns the file of scores by row numbers."""
    with Context(recipe, console, verbose) as context:
        prepare(context)
        scores = score_training_pairs(context, choose_teacher(context))
        if scores is None:
            raise RecipeError(f"recipe {recipe.name}: teachers is empty, so there is nothing to score")
        console.print(
            f"The scores are in {recipe.store.path}: {', '.join(scores.stores)}.", highlight=False, markup=False
        )
        return scores.path


def train(recipe: Recipe, *, console: Console, verbose: bool = False) -> Path:
    """Train the recipe's student with the recipe's own values; returns the folder it is saved in."""
    check(recipe)
    with Context(recipe, console, verbose) as context, recording(context) as recorder:
        prepare(context)
        recorder.start()
        teacher = choose_teacher(context)
        scores = score_training_pairs(context, teacher)
        job = make_job(context, recipe.student, recipe.stages, scores)
        student = train_model(context, DISTILLED, job)
        recorder.teacher(scores)
        recorder.training(DISTILLED, student, recipe, scores)
        taught = taught_by(teacher.name, scores.stores) if scores else ""
        save_models(context, {"student": student}, {"student": card_text(context, student, None, DISTILLED, taught)})
        console.print(f"The student is in {context.output / 'student'}.", highlight=False, markup=False)
        return context.output / "student"


def tune(
    recipe: Recipe,
    *,
    space: str | None = None,
    trials: int | None = None,
    resume: bool = False,
    console: Console,
    verbose: bool = False,
) -> Any:
    """Search the student's values; returns the study. An unfinished study goes on only with `resume`."""
    changes: dict[str, Any] = {}
    if space is not None:
        changes["search.space"] = space
    if trials is not None:
        changes["search.trials"] = trials
    if recipe.search is None and not changes:
        changes["search.space"] = "temperature_negatives_lr"
    recipe = override(recipe, changes)
    check(recipe)
    with Context(recipe, console, verbose) as context, recording(context) as recorder:
        prepare(context)
        recorder.start()
        scores = score_training_pairs(context, choose_teacher(context))
        recorder.teacher(scores)
        from stillhouse.pipeline.search_report import report_search  # needs Optuna

        winner, study = search_student(context, scores, recorder.tracker, recorder.parent, resume=resume)
        register_best_trial(context, study)
        recorder.searched(study)
        console.print(trial_table(study))
        report_search(context, recorder, winner, study, scores)
        return study


def evaluate(recipe: Recipe, *, console: Console, verbose: bool = False) -> Report:
    """Measure the first stage and the student under the output folder on test; written to its `evaluation` folder."""
    with Context(recipe, console, verbose) as context:
        folder = context.output / "student"
        if not (folder / "ranker.json").exists():
            raise StillhouseError(f"{folder}: no student; make one with `stillhouse run` or `stillhouse train`")
        prepare(context)
        from stillhouse.rankers import load_ranker

        key = stable_hash(identity_of(load_ranker(folder), dtype_name(context)))
        stage = first_stage(context)
        systems = [stage, System(DISTILLED, (Model(key, folder, {}),))]
        with context.step("evaluation"):
            report = compare_systems(context, systems, [(DISTILLED, stage.name)], None, context.output / "evaluation")
        show(context, report)
        return report
