"""What a recipe would cost, said before anything is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model, make_job
from stillhouse.pipeline.run import prepare
from stillhouse.pipeline.runs import scoring_dtype
from stillhouse.pipeline.teachers import scoring_depth, teacher_store, training_pairs
from stillhouse.recipe import Recipe
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.tree import ScoresTeacher

BATCH_QUERIES = 8
BYTES_PER_SCORE = 110
"""Of one row of the store: two hashes, two ids, score and counts, before compression."""


@dataclass(frozen=True)
class TeacherPlan:
    """Cost of scoring with one teacher."""

    name: str
    trained: bool
    pairs: int
    stored: int
    pairs_per_second: float

    @property
    def seconds(self) -> float:
        return (self.pairs - self.stored) / self.pairs_per_second


def plan(recipe: Recipe, *, console: Console) -> list[TeacherPlan]:
    """Print pairs new and stored, time from two timed batches on this machine, bytes and device-hours."""
    check(recipe)
    with Context(recipe, console) as context:
        prepare(context)
        depth = scoring_depth(recipe)
        pairs = training_pairs(context)
        plans = [
            _plan_teacher(context, name, spec, pairs)
            for name, spec in recipe.teachers.items()
            if not isinstance(spec, ScoresTeacher | EndpointTeacher)
        ]
    table = Table(title=f"{recipe.name}: scoring {len(pairs):,} queries to depth {depth}")
    for column in ("teacher", "pairs", "stored", "new", "pairs/s", "time", "device-hours", "bytes"):
        table.add_column(column, justify="left" if column == "teacher" else "right")
    for each in plans:
        new = each.pairs - each.stored
        table.add_row(
            each.name if each.trained else f"{each.name} (not trained yet)",
            f"{each.pairs:,}",
            f"{each.stored:,}",
            f"{new:,}",
            f"{each.pairs_per_second:.0f}",
            _duration(each.seconds),
            f"{each.seconds / 3600:.2f}",
            f"{new * BYTES_PER_SCORE:,}",
        )
    console.print(table)
    return plans


def _plan_teacher(context: Context, name: str, spec: Any, pairs: Any) -> TeacherPlan:
    from stillhouse.rankers import RANKERS, load_ranker
    from stillhouse.training.run import pick_device

    job = make_job(context, spec, spec.stages)
    path = context.root / "models" / job.key
    trained = (path / "done.json").exists()
    ranker = load_ranker(path) if trained else RANKERS[spec.ranker].from_spec(job.ranker_spec, seed=job.seed)
    count = sum(len(docs) for docs in pairs.values())
    stored = 0
    if trained:
        split, docs = context.collection.splits["train"], context.collection.docs
        query_rows = np.asarray([query for query, rows in pairs.items() for _ in rows], dtype=np.int32)
        doc_rows = np.asarray([row for rows in pairs.values() for row in rows], dtype=np.int32)
        store = teacher_store(context, Model(job.key, path, {}))
        hashes = split.queries.hashes.digits[query_rows], docs.hashes.digits[doc_rows]
        stored = int((~np.isnan(store.lookup(*hashes))).sum())
    dtype = scoring_dtype(context.recipe.store.dtype)
    return TeacherPlan(
        name, trained, count, stored, _speed(context, ranker.for_scoring(dtype).to(pick_device()), pairs)
    )


def _speed(context: Context, ranker: Any, pairs: Any) -> float:
    """Pairs per second of two timed batches, after one that warms up."""
    split, docs = context.collection.splits["train"], context.collection.docs
    rows = list(pairs)
    done, started = 0, 0.0
    for batch in range(3):
        chosen = rows[batch * BATCH_QUERIES : (batch + 1) * BATCH_QUERIES] or rows[:BATCH_QUERIES]
        if batch == 1:
            started = time.perf_counter()
        ranker.score(split.queries.texts(chosen), [docs.texts(pairs[row]) for row in chosen])
        done += sum(len(pairs[row]) for row in chosen) if batch else 0
    return done / (time.perf_counter() - started)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
