"""The whole recipe: collection, candidates, teacher, scores, search, students, comparison, record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from stillhouse.evaluation.report import Report
from stillhouse.evaluation.table import console_tables, legend
from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.final import (
    System,
    card_text,
    compare_systems,
    first_stage,
    save_models,
    step_seconds,
    taught_by,
    write_record,
)
from stillhouse.pipeline.models import Model, TeacherFile, make_job, train_model, untuned_model
from stillhouse.pipeline.recording import Recorder, environment, recording
from stillhouse.pipeline.registering import register_student, study_tags
from stillhouse.pipeline.reporting import write_run_report
from stillhouse.pipeline.searching import search_student
from stillhouse.pipeline.teachers import Teacher, choose_teacher, score_training_pairs
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.tree import TrackingSpec

DISTILLED = "distilled student"


@dataclass(frozen=True)
class RunResult:
    """What `stillhouse run` did, and where it lies."""

    output: Path
    report: Report
    record: dict[str, Any]


def run(recipe: Recipe, *, console: Console, verbose: bool = False) -> RunResult:
    """Do every step of a recipe that has not been done; a second call prints the same result in seconds."""
    check(recipe)
    with Context(recipe, console, verbose) as context, recording(context) as recorder:
        prepare(context)
        recorder.start()
        teacher, scores = teach(context, recipe)
        recorder.teacher(scores)
        for name, model in teacher.members.items():
            recorder.training(f"teacher {name}", model)
        winner, study = recipe, None
        if recipe.search is not None:
            winner, study = search_student(context, scores, recorder.tracker, recorder.parent)
            recorder.searched(study)
            from stillhouse.pipeline.search_report import report_search  # needs Optuna

            report_search(context, recorder, winner, study, scores)
        students = train_students(context, winner, scores)
        for name, model in students.items():
            other = student_recipe(recipe, winner, name)
            same = other.teaching() == winner.teaching()
            recorder.training(name, model, other, scores if same else None)
        report = compare(context, teacher, students, winner, scores.stores if scores else ())
        recorder.measures(report, DISTILLED)
        record = _record(context, recorder, scores, winner, study)
        write_record(context, record)
        with context.step("report"):
            members = {f"teacher {name}": model for name, model in teacher.members.items()}
            write_run_report(context, students | members)
        recorder.files()
        if study is not None:
            student = students[DISTILLED]
            tags = study_tags(study) | {"stillhouse.dev": f"{student.facts[recipe.evaluation.select_by]:.6f}"}
            register_student(context, recorder.children[DISTILLED], student.path, tags)
    show(context, report)
    return RunResult(context.output, report, record)


def prepare(context: Context) -> None:
    """Collection and candidates, with what was found in them."""
    with context.step("collection"):
        collection = context.collection
    counts = ", ".join(f"{len(split.queries):,} {name}" for name, split in collection.splits.items())
    context.note(f"{len(collection.docs):,} documents; queries: {counts}")
    with context.step("candidates"):
        for name in collection.splits:
            context.candidates(name)


def teach(context: Context, recipe: Recipe) -> tuple[Teacher, TeacherFile | None]:
    """The teacher that a recipe or one of its baselines asks for, and its scores of the training pairs."""
    teacher = choose_teacher(context, recipe)
    return teacher, score_training_pairs(context, teacher, recipe)


def train_students(context: Context, winner: Recipe, scores: TeacherFile | None) -> dict[str, Model]:
    """The distilled student and the baselines: same data, another objective, or whatever else their overrides say."""
    students = {DISTILLED: train_student(context, DISTILLED, winner, scores)}
    for name, changes in context.recipe.baselines.items():
        other = override(winner, changes)
        same = other.teaching() == winner.teaching() and other.teacher_selection == winner.teacher_selection
        taught = scores if same else teach(context, other)[1]
        students[f"{name} student"] = train_student(context, f"{name} student", other, taught)
    return students


def student_recipe(recipe: Recipe, winner: Recipe, name: str) -> Recipe:
    """What `stillhouse train` would be given for one of the students: the values found, at the scale of a winner."""
    changes = {} if name == DISTILLED else recipe.baselines[name.removesuffix(" student")]
    scale = {f"scale.{key}": value for key, value in recipe.retrain.model_dump(mode="json").items()}
    return override(winner, {**changes, **scale})


def train_student(context: Context, name: str, recipe: Recipe, scores: TeacherFile | None) -> Model:
    """One student on the context's collection and candidates, at the scale of a winner."""
    scale = recipe.retrain.model_dump(mode="json")
    return train_model(context, name, make_job(context, recipe.student, recipe.stages, scores, scale))


def compare(
    context: Context, teacher: Teacher, students: dict[str, Model], winner: Recipe, stores: Sequence[str]
) -> Report:
    """First stage, untuned student, teacher and students on test."""
    untuned = untuned_model(context, winner.student)
    systems = [first_stage(context), System("untuned student", (untuned,))]
    measured = bool(teacher.members) and not teacher.files
    if measured:
        systems.append(System("teacher", tuple(teacher.members.values()), f"{teacher.name}, chosen on dev"))
    baselines = [name for name in students if name != DISTILLED]
    systems += [System(name, (students[name],)) for name in [*baselines, DISTILLED]]
    pairs = [(DISTILLED, system.name) for system in systems if system.name != DISTILLED]
    gap = (DISTILLED, baselines[0], "teacher") if baselines and measured else None
    with context.step("evaluation"):
        report = compare_systems(context, systems, pairs, gap, context.output)
    models = {"student": students[DISTILLED]}
    taught = taught_by(teacher.name, stores)
    cards = {"student": card_text(context, students[DISTILLED], report, DISTILLED, taught)}
    for name, model in teacher.members.items():
        alone = len(teacher.members) == 1
        folder = "teacher" if alone else f"teacher/{name}"
        models[folder] = model
        cards[folder] = card_text(context, model, report, "teacher" if alone else "")
    save_models(context, models, cards)
    return report


def show(context: Context, report: Report) -> None:
    """The table, the time of every step, and where things are."""
    console, output = context.console, context.output
    for table in console_tables(report):
        console.print(table)
    for line in legend(report):
        console.print(line, highlight=False, markup=False)
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in step_seconds(context).items() if seconds >= 0.5)
    total = time.perf_counter() - context.started
    console.print(f"\nTime of each step: {steps}. This command: {total:.0f} s.", highlight=False)
    uri = context.recipe.tracking.uri
    shown = "stillhouse ui" if uri == TrackingSpec().uri else f"stillhouse ui --tracking {uri}"
    record = "not kept (tracking.uri is none)" if uri == "none" else f"{uri}; `{shown}` shows every run and trial"
    console.print(f"Results: {output}/results.md and report.html. Record: {record}.", highlight=False, markup=False)
    console.print(
        "Load the student:\n  from stillhouse import load_ranker\n"
        f"  ranker = load_ranker({str(output / 'student')!r})\n"
        '  ranker.score(["a query"], [["a document", "another"]])',
        highlight=False,
        markup=False,
    )


def _record(
    context: Context, recorder: Recorder, scores: TeacherFile | None, winner: Recipe, study: Any
) -> dict[str, Any]:
    stores = scores.stores if scores else ()
    return {
        "experiment": context.recipe.tracking.experiment,
        "tracking_uri": context.recipe.tracking.uri,
        "parent_run_id": recorder.parent,
        "child_run_ids": recorder.children | _trial_runs(study),
        "store_key": stores[0] if stores else "",
        "store_keys": list(stores),
        "store_path": context.recipe.store.path,
        "collection_digest": context.collection.digest,
        "best": study.best.values if study else {},
        "environment": environment(),
        "winner": {name: stage.model_dump(mode="json") for name, stage in winner.stages.items()},
    }


def _trial_runs(study: Any) -> dict[str, str]:
    return {f"trial {trial.key}": trial.run_id for trial in study.trials} if study else {}
