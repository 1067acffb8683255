"""One ranker of an experiment: trained, measured on test, and kept as a small file; a second call reads the file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.artifacts import stable_hash, write_json
from stillhouse.evaluation.measures import PerQuery
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import TeacherFile, make_job, train_model
from stillhouse.pipeline.run import teach
from stillhouse.pipeline.runs import first_stage_run, mean_run, measure, model_run
from stillhouse.pipeline.teachers import scoring_depth, train_teachers
from stillhouse.recipe import Recipe
from stillhouse.records import Run

Result = dict[str, Any]
"""`per_query`: measure -> query id -> value; `seconds`: wall time of training and evaluation."""


class Results:
    """Results in a folder, each under the key of what it depends on: experiments share what they have in common."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taught: dict[str, TeacherFile | None] = {}
        """Score files of this process: opening a store takes longer than some trainings' evaluation."""

    def student(self, context: Context, name: str, recipe: Recipe) -> Result:
        """The student of a recipe, which is the context's with the overrides of one baseline."""

        def make() -> Result:
            taught = self._teach(context, recipe) if _reads_teacher(recipe) else None
            started = time.perf_counter()
            scale = recipe.retrain.model_dump(mode="json")
            job = make_job(context, recipe.student, recipe.stages, taught, scale)
            kept = (context.root / "models" / job.key).exists()
            model = train_model(context, name, job)
            per_query = measure(context, model_run(context, name, model, "test"), "test")
            if not kept:
                # A hundred students of 60 MB each, which nobody asked for; their measures stay.
                shutil.rmtree(model.path)
            return _result(per_query, started)

        return self._kept(student_key(context, recipe), make)

    def teacher(self, context: Context, recipe: Recipe) -> Result:
        """The teacher of a recipe; several are the mean of their scores."""

        def rank() -> Run:
            return mean_run(
                [
                    model_run(context, f"teacher {name}", model, "test")
                    for name, model in train_teachers(context, recipe).items()
                ]
            )

        return self._system(context, _teachers(recipe), rank)

    def first_stage(self, context: Context) -> Result:
        """The candidates as they come."""
        return self._system(context, "first stage", lambda: first_stage_run(context, "test"))

    def _system(self, context: Context, identity: Any, rank: Callable[[], Run]) -> Result:
        def make() -> Result:
            started = time.perf_counter()
            return _result(measure(context, rank(), "test"), started)

        return self._kept(stable_hash([identity, _data(context.recipe, context)]), make)

    def _teach(self, context: Context, recipe: Recipe) -> TeacherFile | None:
        key = stable_hash([_teachers(recipe), _data(recipe, context), scoring_depth(context.recipe)])
        if key not in self._taught:
            self._taught[key] = teach(context, recipe)[1]
        return self._taught[key]

    def _kept(self, key: str, make: Callable[[], Result]) -> Result:
        file = self.folder / f"{key}.json"
        if not file.exists():
            write_json(file, make())
        result: Result = json.loads(file.read_text())
        return result


def student_key(context: Context, recipe: Recipe) -> str:
    """Equal for students that learn the same from the same; the teacher counts only where it is read."""
    plain = recipe.model_dump(mode="json", include={"student", "scale", "retrain", "seed"}, exclude_defaults=True)
    stages = [[name, stage.model_dump(mode="json", exclude_defaults=True)] for name, stage in recipe.stages.items()]
    teachers = _teachers(recipe) if _reads_teacher(recipe) else None
    return stable_hash([plain, stages, teachers, _data(recipe, context)])


def _data(recipe: Recipe, context: Context) -> list[Any]:
    parts = recipe.model_dump(mode="json", include={"candidates", "evaluation"}, exclude_defaults=True)
    return [context.collection.digest, parts]


def _teachers(recipe: Recipe) -> list[Any]:
    chosen = {name: spec.model_dump(mode="json", exclude_defaults=True) for name, spec in recipe.teaching().items()}
    selection = recipe.teacher_selection if recipe.teacher_selection == "best_on_dev" else "mean"
    unseeded = any(getattr(spec, "seed", None) is None for spec in recipe.teaching().values())
    return [chosen, selection, recipe.seed if unseeded else None]


def _reads_teacher(recipe: Recipe) -> bool:
    return any(stage.reads_teacher() for stage in recipe.stages.values())


def _result(per_query: PerQuery, started: float) -> Result:
    return {"per_query": per_query, "seconds": round(time.perf_counter() - started, 1)}
