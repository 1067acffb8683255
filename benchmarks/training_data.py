"""Groups of `pydocs` with a teacher's scores, for us and, as texts, for the peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed_data import DOC_CAP, QUERY_CAP, Data, cut
from stillhouse.recipe.tree import StageSpec
from stillhouse.training.curve import CURVE, read_points
from stillhouse.training.groups import GroupSampler, epoch_order
from stillhouse.training.teacher import TeacherScores, write_teacher_scores

NEGATIVES = 7


def teacher_file(data: Data) -> Path:
    """Scores of every candidate: BM25 as a share of the query's best, times 2; a document judged relevant has 6."""
    path = data.workspace / "speed" / f"teacher-{data.collection.digest[:16]}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    split, candidates, pieces = data.collection.splits["train"], data.candidates["train"], []
    for row in range(len(split.queries)):
        score_of = dict(zip(candidates.rows(row).tolist(), candidates.scores(row).tolist(), strict=True))
        best = max(score_of.values(), default=1.0) or 1.0
        said = {doc: 2.0 * score / best for doc, score in score_of.items()}
        said |= {doc: 6.0 for doc, grade in split.qrels.get(row, {}).items() if grade > 0}
        docs = np.array(sorted(said), dtype=np.int32)
        pieces.append((np.full(len(docs), row, dtype=np.int32), docs, np.array([said[doc] for doc in docs.tolist()])))
    write_teacher_scores(path, pieces)
    return path


def stage_of(loss: dict[str, Any], steps: int, batch: int, *, forward: int | None = None, rate: float = 2e-5) -> Any:
    """One stage of `steps` steps of `batch` groups, evaluated once, after the last."""
    return {
        "loss": loss,
        "groups": {"strategy": "random", "num_negatives": NEGATIVES},
        "optimizer": {"learning_rate": rate},
        "queries_per_step": batch,
        "queries_per_forward": forward or batch,
        "max_steps": steps,
        "epochs": 50,
        "evaluations": 1,
        "restore_best": False,
    }


def groups_as_texts(data: Data, stage: Any, seed: int, count: int) -> dict[str, Sequence[Any]]:
    """The groups that our training reads in its first steps, as columns: query, doc_0 (the positive) ..., label."""
    split, teacher = data.collection.splits["train"], TeacherScores.read(teacher_file(data))
    spec = StageSpec.model_validate(stage)
    sampler = GroupSampler(split, data.collection.docs, data.candidates["train"], spec.groups, seed, teacher)
    per_epoch = len(split.queries)
    rows = [
        (row, epoch) for epoch in range(-(-count // per_epoch)) for row in epoch_order(split.queries.ids, seed, epoch)
    ]
    groups = [sampler.group(row, epoch) for row, epoch in rows[:count]]
    full = [group for group in groups if len(group.doc_rows_K) == NEGATIVES + 1]
    columns: dict[str, Sequence[Any]] = {
        "query": cut(split.queries.texts([group.query_row for group in full]), QUERY_CAP)
    }
    for place in range(NEGATIVES + 1):
        texts = data.collection.docs.texts([int(group.doc_rows_K[place]) for group in full])
        columns[f"doc_{place}"] = cut(texts, DOC_CAP)
    return columns | {"label": [group.teacher_K.tolist() for group in full]}


def step_times(checkpoints: Path) -> list[float]:
    """When each step of our training ended."""
    return [point["time"] for point in read_points(checkpoints / CURVE)]
