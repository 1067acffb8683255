"""Search the student's recipe: every trial is a training on the teacher's stored scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillhouse.errors import SearchError
from stillhouse.pipeline.check import searched_space
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.keeping import keep_best
from stillhouse.pipeline.models import TeacherFile, make_job, triples_of
from stillhouse.pipeline.provenance import about
from stillhouse.pipeline.teachers import taught_stages
from stillhouse.recipe import Recipe, override
from stillhouse.search.browsing import short
from stillhouse.search.keeping import RANKER
from stillhouse.search.space import COSTS, drawn_at_random
from stillhouse.training.job import TrainingJob
from stillhouse.training.worker import WAITING_CPUS, in_trial, worker_cpus

WORKERS = "scale.num_workers"


@dataclass(frozen=True)
class StudentObjective:
    """Trains the student of one trial's recipe; picklable, so that Tune can send it to its actors."""

    template: TrainingJob
    keep_ranker: bool = False
    """Save the ranker that a trial ends with beside its checkpoints."""
    costs: bool = False
    """Measure what the student costs when its training ends: some objective asks for it."""

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        job = replace(
            self.template,
            ranker=recipe.student.model_dump(mode="json"),
            stages={name: stage.model_dump(mode="json") for name, stage in recipe.stages.items()},
            seed=recipe.seed,
            scale=recipe.scale.model_dump(mode="json"),
        )
        if not self.keep_ranker:
            in_trial(job, checkpoint_dir, report, costs=self.costs)
            return
        aside, kept = checkpoint_dir / f".{RANKER}.tmp", checkpoint_dir / RANKER
        in_trial(job, checkpoint_dir, report, aside, costs=self.costs)
        # A trial that a kill made start again has one already.
        shutil.rmtree(kept, ignore_errors=True)
        aside.rename(kept)


def search_student(
    context: Context, teacher: TeacherFile | None, tracker: Any, parent: str | None, resume: bool = True
) -> tuple[Recipe, Any]:
    """The recipe with the best values found, and the study."""
    from stillhouse.search.study import run_study

    recipe = context.recipe
    space, trial_recipe = searched_space(recipe)
    # Every file that a trial may name: trials run elsewhere, and find its rows in the workspace.
    triples = {path: found.digest for path, found in triples_of(context, taught_stages(recipe)).items()}
    template = replace(make_job(context, recipe.student, recipe.stages, teacher), triples=triples)
    keep_models = 0 if recipe.search is None else recipe.search.keep_models
    costs = any(metric in COSTS for metric in space.metrics)
    rungs = sum(stage.evaluations for stage in trial_recipe.stages.values())
    for key in drawn_at_random(space):
        context.note(f"{key} is drawn evenly: {space.sampler.name} learns only about keys that every trial has")
    with context.step(f"search {space.trials} trials") as advance:
        finished = 0

        def progress(trial: Any) -> None:
            nonlocal finished
            finished += 1
            advance(finished, space.trials, "")
            values = ", ".join(f"{key.rsplit('.', 1)[-1]} {short(value)}" for key, value in trial.values.items())
            found = zip(space.metrics, trial.metrics or (), strict=False)
            metric = "dev " + ", ".join(f"{name} {value:.4g}" for name, value in found) if trial.metrics else "no value"
            context.note(f"trial {finished}: {values}: {metric} {trial.state.lower()} {trial.seconds:.0f} s")

        study = run_study(
            trial_recipe,
            space,
            StudentObjective(template, keep_ranker=keep_models > 0, costs=costs),
            root=context.root,
            tracker=tracker,
            parent_run=parent,
            resume=resume,
            placement=lambda: placement(trial_recipe, context.ray(), mixed=WORKERS in space.space),
            metric_budget=rungs,
            progress=progress,
            # A trial that was trained without them has no costs to give.
            context={"training": template.key} | ({"measured": "costs"} if costs else {}),
            keep_models=keep_models,
            about=about(context, teacher),
        )
    keep_best(context, study, space, tracker)
    return override(recipe, study.best.values), study


def placement(recipe: Recipe, cluster: dict[str, float], mixed: bool = False) -> tuple[dict[str, float], int]:
    """What one trial takes in Tune, and how many fit: resources and the number of trials at a time.

    `mixed`: the number of workers is searched too; then one trial at a time has the cluster to itself.
    """
    from stillhouse.search.placement import WAITING_CPU

    if mixed:
        return {"CPU": WAITING_CPU}, 1
    scale = recipe.scale
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    per_worker = worker_cpus(scale, WAITING_CPUS)
    if scale.num_workers == 1:
        resources = {"CPU": per_worker} | ({"GPU": scale.gpus_per_worker} if scale.gpus_per_worker else {})
        fits = int(cpus / per_worker)
    else:
        # The trial only waits; its workers take the resources.
        resources = {"CPU": WAITING_CPU}
        fits = int((cpus - 0.05) / (per_worker * scale.num_workers))
    if scale.gpus_per_worker:
        fits = min(fits, int(gpus / (scale.gpus_per_worker * scale.num_workers)))
    if fits < 1:
        raise SearchError(
            f"a trial needs {scale.num_workers} x ({per_worker:g} CPU, {scale.gpus_per_worker:g} GPU), but the cluster "
            f"has {cpus:g} CPU and {gpus:g} GPU; lower scale.num_workers or scale.gpus_per_worker"
        )
    return resources, fits
