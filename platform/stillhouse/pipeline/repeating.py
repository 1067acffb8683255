"""A recorded training once more, from its record alone: is its dev measure what the record says?"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console

from stillhouse.errors import RecipeError, TrackingError
from stillhouse.pipeline.context import Context, workspace
from stillhouse.pipeline.models import TeacherFile, make_job, run_training
from stillhouse.pipeline.provenance import CANDIDATES, COLLECTION, STORES, data_tags, teacher_tags
from stillhouse.pipeline.recording import RECIPE, environment
from stillhouse.pipeline.run import prepare
from stillhouse.pipeline.teachers import choose_teacher, score_training_pairs
from stillhouse.recipe import Recipe, make_recipe
from stillhouse.recipe.text import read_yaml
from stillhouse.tracking.base import metric_key
from stillhouse.tracking.recorded import RecordedRun, children_of, is_run_id, recorded_run, recorded_series
from stillhouse.training.curve import read_points
from stillhouse.training.evaluations import EVALUATIONS

ELSEWHERE = 0.005
"""Difference of a measure that passes where machine, versions or scores are others."""

THREADS = "system/threads"

Series = dict[int, float]
"""Step -> value."""


@dataclass(frozen=True)
class Repeated:
    """The dev measure that selects, as recorded and as measured again."""

    measure: str
    recorded: float
    repeated: float
    tolerance: float

    @property
    def difference(self) -> float:
        return abs(self.recorded - self.repeated)

    @property
    def same(self) -> bool:
        return self.difference <= self.tolerance


def repeat(
    run_id: str,
    tracking: str | None = None,
    tolerance: float | None = None,
    *,
    console: Console,
    verbose: bool = False,
    root: Path | None = None,
) -> Repeated:
    """Train what a run has recorded in a fresh folder, and compare the best dev measure of the same evaluations.

    Data, teacher and scores come through the workspace, where each lies under its digest; the student is trained
    anew. RecipeError or TrackingError if the run is none of a student, or its data has changed.
    """
    run, recipe = _recorded(run_id, tracking)
    measure = recipe.evaluation.select_by
    recorded = dict(recorded_series(run_id, metric_key("dev", measure), tracking))
    if not recorded:
        raise TrackingError(f"run {run_id}: no dev measure {measure} is recorded, so there is nothing to repeat")
    with Context(recipe, console, verbose, root or workspace()) as context:
        prepare(context)
        _check_data(run, context)
        teacher = score_training_pairs(context, choose_teacher(context))
        warnings = [*_other_environment(run, tracking), *_other_scores(run, teacher)]
        for warning in warnings:
            console.print(f"[yellow]warning[/] {warning}", highlight=False)
        had = int(max(dict(recorded_series(run_id, THREADS, tracking)).values(), default=0))
        with _threads(had):
            repeated, threads = _trained(context, teacher, int(run.tags.get("stillhouse.seeds", "1")))
        if threads != had:
            warnings.append(f"threads differ: {had or 'not recorded'}, now {threads}")
            console.print(f"[yellow]warning[/] {warnings[-1]}", highlight=False)
    missing = recorded.keys() - repeated.keys()
    if missing:
        raise TrackingError(f"run {run_id}: evaluated at step {min(missing)}, where the repeated training was not")
    if tolerance is None:
        tolerance = ELSEWHERE if warnings else 0.0
    found = Repeated(measure, max(recorded.values()), max(repeated[step] for step in recorded), tolerance)
    console.print(
        f"dev {measure}: recorded {found.recorded:.6f}, repeated {found.repeated:.6f}, difference "
        f"{found.difference:.2g}: {'the same' if found.same else 'DIFFERENT'} (tolerance {found.tolerance:g})",
        highlight=False,
    )
    return found


def _recorded(run_id: str, tracking: str | None) -> tuple[RecordedRun, Recipe]:
    """The run and the recipe that gives its student; without search and baselines, which a training has none of."""
    if not is_run_id(run_id):
        raise RecipeError(f"{run_id}: not an id of an MLflow run, which has 32 hexadecimal digits")
    run = recorded_run(run_id, tracking)
    file = run.folder / RECIPE
    if run.parent is None or not file.is_file():
        children = [] if run.parent else children_of(run_id, tracking)
        known = ", ".join(f"{name} {child}" for name, child in children) or "none"
        raise RecipeError(
            f"run {run_id} ({run.name}): not the training of a student; "
            f"name a trial or a student's run below it: {known}"
        )
    tree = read_yaml(file)
    return run, make_recipe({key: tree[key] for key in tree if key not in ("search", "baselines")}, place=str(file))


def _check_data(run: RecordedRun, context: Context) -> None:
    here = data_tags(context)
    for tag, what in ((COLLECTION, "collection"), (CANDIDATES, "candidates")):
        was = run.tags.get(tag)
        if was is not None and was != here[tag]:
            raise RecipeError(
                f"run {run.run_id}: its {what} had digest {was}, that of {context.recipe.collection.train} here has "
                f"{here[tag]}; repeat it where the data is as it was"
            )


def _other_environment(run: RecordedRun, tracking: str | None) -> Iterator[str]:
    """What differs of versions and hardware; the parent has them, as they are the same for all its trainings."""
    file = recorded_run(run.parent, tracking).folder / "environment.json" if run.parent else Path("none")
    if not file.is_file():
        yield "the record has no environment.json, so versions and hardware are not compared"
        return
    then, here = json.loads(file.read_text()), environment()
    for part in ("versions", "hardware"):
        was, now = then.get(part, {}), here[part]
        differ = [f"{name} was {was[name]}, is {now.get(name)}" for name in was if str(was[name]) != str(now.get(name))]
        if differ:
            yield f"{part} differ: {'; '.join(differ)}"
    if then.get("commit") != here["commit"]:
        yield f"stillhouse differs: commit was {then.get('commit') or 'unknown'}, is {here['commit'] or 'unknown'}"


def _other_scores(run: RecordedRun, teacher: TeacherFile | None) -> Iterator[str]:
    was, here = run.tags.get(STORES), teacher_tags(teacher)[STORES]
    if was is not None and was != here:
        yield f"teacher scores differ: stores were {was}, are {here}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Figures on CPU depend on the number of threads, so the training gets as many as it had; 0: not recorded."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trained(context: Context, teacher: TeacherFile | None, seeds: int) -> tuple[Series, int]:
    """The dev measure that selects, at each evaluation of a training in a fresh folder, and its threads.

    The mean over seeds, as a trial with several of them has it.
    """
    recipe = context.recipe
    job = make_job(context, recipe.student, recipe.stages, teacher)
    context.root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="repeat-", dir=context.root))
    curves: list[Series] = []
    threads = 0
    try:
        for number in range(seeds):
            with context.step("train again"):
                run_training(context, "repeat", replace(job, seed=job.seed + number), folder / str(number), None)
            lines = read_points(folder / str(number) / EVALUATIONS)
            curves.append({int(line["step"]): line[recipe.evaluation.select_by] for line in lines})
            threads = int(lines[-1][THREADS])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shared = [step for step in curves[0] if all(step in curve for curve in curves)]
    return {step: fmean(curve[step] for curve in curves) for step in shared}, threads
