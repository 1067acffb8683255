"""Training on 1 k, 10 k and 100 k groups with a tiny model: does a group, or the memory, cost more?

    python -m benchmarks.training_growth [--small | --sizes 1000,10000,100000]

As many train queries as groups, one epoch, K = 8, a teacher score for every pair. Each size is a process of its own;
`--small` tries it and writes no result.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.growth import Growth, Measured
from benchmarks.memory import Watch, apart
from benchmarks.worlds import TINY, write_collection, write_teacher

if TYPE_CHECKING:
    from stillhouse.collection import Collection

DOCS, DEPTH, NEGATIVES = 2_000, 10, 7


def measure(size: int) -> Measured:
    """Seconds of the training and its largest memory, in bytes."""
    import torch

    from stillhouse.training.run import run_job

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        # Apart: it is what a training reads, not what it does.
        collection, backbone = apart(prepare, root, size)
        seen: list[dict[str, float]] = []
        job = job_of(collection, root, backbone)
        with Watch() as watch:
            start = time.perf_counter()
            done = run_job(job, root / "checkpoints", lambda metrics, step: seen.append(metrics), None)
            seconds = time.perf_counter() - start
        assert done["steps"] == -(-size // 32)
        assert len(seen) == 1
        return {"seconds": seconds, "process_bytes": watch.own, "columns": {"steps": done["steps"]}}


def prepare(root: Path, size: int) -> tuple[Collection, Path]:
    """Collection, candidates and teacher scores; gives the collection and the backbone's folder."""
    from stillhouse.candidates import candidates_for
    from stillhouse.recipe.tree import CandidatesSpec
    from stillhouse.training.teacher import write_teacher_scores

    collection = write_collection(root, DOCS, size)
    teacher = write_teacher(root / "model", TINY, query_max_length=6, doc_max_length=24)
    spec = CandidatesSpec(depth=DEPTH)
    candidates_for(spec, collection, "dev", root)
    rows = pairs_with_positives(candidates_for(spec, collection, "train", root), size)
    draw = np.random.default_rng(0)
    write_teacher_scores(root / "teacher.parquet", [(*rows, draw.normal(size=len(rows[0])).astype(np.float32))])
    return collection, teacher.parent / "backbone"


def pairs_with_positives(candidates: Any, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Every candidate of each query, and its positive where that is none of them."""
    query_rows, doc_rows = [], []
    for row in range(queries):
        docs = np.union1d(candidates.rows(row), [row * 7 % DOCS])
        query_rows.append(np.full(len(docs), row, np.int32))
        doc_rows.append(docs.astype(np.int32))
    return np.concatenate(query_rows), np.concatenate(doc_rows)


def job_of(collection: Any, root: Path, backbone: Path) -> Any:
    """One stage of one epoch."""
    from stillhouse.recipe.tree import CandidatesSpec, EvaluationSpec, ScaleSpec, StageSpec
    from stillhouse.training.job import TrainingJob

    stage = {
        "loss": {"name": "contrastive"},
        "extra_losses": {"taught": {"name": "kl", "weight": 0.5}},
        "groups": {"num_negatives": NEGATIVES},
        "evaluations": 1,
    }
    ranker = {"ranker": "cross_encoder", "backbone": str(backbone), "query_max_length": 6, "doc_max_length": 24}
    return TrainingJob(
        ranker=ranker,
        stages={"distill": StageSpec.model_validate(stage).model_dump(mode="json")},
        seed=0,
        evaluation=EvaluationSpec(depth=DEPTH).model_dump(mode="json"),
        scale=ScaleSpec(dtype="float32").model_dump(mode="json"),
        candidates=CandidatesSpec(depth=DEPTH).model_dump(mode="json"),
        collection=str(collection.path),
        collection_digest=collection.digest,
        workspace=str(root),
        teacher_scores=str(root / "teacher.parquet"),
        teacher_key="random",
    )


GROWTH = Growth(
    name="training_growth",
    question="Training: growth from a thousand to 100 thousand groups",
    about="A tiny cross-encoder, 32 groups of 8 documents a step, one epoch over as many train queries as groups, one "
    "dev evaluation, in one process with one thread. Candidates, qrels and teacher scores of all queries are there.",
    item="group",
    sizes=(1_000, 10_000, 100_000),
    small=(64, 128, 256),
    measure=measure,
    memory={"process_bytes": "process MiB"},
    packages=("torch", "transformers", "pyarrow", "numpy"),
)

if __name__ == "__main__":
    GROWTH.main()
