"""A training at toy size that every test here can change."""

from __future__ import annotations

import numpy as np
import pytest

from stillhouse.recipe.tree import CandidatesSpec, EvaluationSpec, ScaleSpec, StageSpec
from stillhouse.training.job import TrainingJob
from stillhouse.training.teacher import write_teacher_scores


@pytest.fixture(scope="session")
def job(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> TrainingJob:
    rng = np.random.default_rng(0)
    rows = [(q, d) for q in range(len(toy.splits["train"].queries)) for d in range(len(toy.docs))]
    # Every seventh pair has no score: ranks then hold different weights.
    kept = [pair for i, pair in enumerate(rows) if i % 7]
    queries, docs = (np.array(column) for column in zip(*kept, strict=True))
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.parquet"
    write_teacher_scores(teacher, [(queries, docs, rng.normal(size=len(kept)).astype(np.float32))])
    stage = StageSpec.model_validate(
        {
            "loss": {"name": "kl", "temperature": 2.0},
            "extra_losses": {"label": {"name": "contrastive", "weight": 0.3}},
            "groups": {"num_negatives": 4},
            "optimizer": {"learning_rate": 1e-3},
            # 24 queries in steps of 5: ranks get 3 and 2, and the last step 4 queries.
            "queries_per_step": 5,
            "queries_per_forward": 2,
            "evaluations": 2,
            "restore_best": False,
        }
    )
    return TrainingJob(
        ranker={"ranker": "dual_encoder", "backbone": str(backbone), "query_max_length": 8, "doc_max_length": 16},
        stages={"distill": stage.model_dump(mode="json")},
        seed=0,
        evaluation=EvaluationSpec(depth=6).model_dump(mode="json"),
        scale=ScaleSpec(dtype="float32").model_dump(mode="json"),
        candidates=CandidatesSpec(depth=12).model_dump(mode="json"),
        collection=str(toy.path),
        collection_digest=toy.digest,
        workspace=str(workspace),
        teacher_scores=str(teacher),
        teacher_key="t",
    )
