"""In-batch negatives on two gloo ranks, under DDP and FSDP2, equal those of one process."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from stillhouse.rankers import RANKERS
from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job
from stillhouse.training.teacher import write_teacher_scores
from tests.contracts.training_jobs import toy_job
from tests.distributed.launch import run_ranks

CAPS = {"query_max_length": 8, "doc_max_length": 16}
STAGES: dict[str, dict[str, Any]] = {
    "contrastive": {"loss": {"name": "contrastive", "temperature": 0.5}, "groups": {"num_negatives": 0}},
    "live": {
        "loss": {"name": "kl", "temperature": 2.0},
        "extra_losses": {"label": {"name": "contrastive", "weight": 0.3}},
        "groups": {"num_negatives": 2, "unscored": "score_on_the_fly", "false_negative_margin": 0.2},
    },
}
CASES = [("contrastive", "ddp"), ("contrastive", "fsdp"), ("live", "ddp"), ("live", "fsdp")]


@pytest.fixture(scope="module")
def jobs(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> dict[str, TrainingJob]:
    folder = tmp_path_factory.mktemp("teacher")
    teacher = RANKERS["cross_encoder"].from_backbone(str(backbone), seed=4, **CAPS)
    teacher.head.weight.data *= 5000  # a fresh head gives nearly equal scores
    teacher.save_pretrained(folder / "model")
    # Only the candidates have stored scores: what a query meets in a batch is scored there.
    queries = toy.splits["train"].queries
    rows = [toy_candidates.rows(query) for query in range(len(queries))]
    scores = teacher.score(queries.texts(range(len(queries))), [toy.docs.texts(docs) for docs in rows]).numpy()
    parts = [(np.full(len(docs), q), docs, scores[q, : len(docs)]) for q, docs in enumerate(rows)]
    write_teacher_scores(folder / "teacher.parquet", parts)
    return {name: _job(toy, workspace, backbone, folder, stage) for name, stage in STAGES.items()}


def _job(toy, workspace, backbone, teacher: Path, stage: dict[str, Any]) -> TrainingJob:
    # 24 queries in steps of 5: ranks get 3 and 2, and the last step 4 queries.
    common = {"queries_per_step": 5, "queries_per_forward": 2, "evaluations": 1, "restore_best": False}
    common["optimizer"] = {"learning_rate": 1e-3}
    groups = {"groups": {"strategy": "in_batch"} | stage["groups"]}
    ranker = {"learn_score_scale": True, "projection_dim": 16}
    job = toy_job(toy, workspace, backbone, {"only": common | stage | groups}, ranker=ranker)
    return replace(job, teacher_scores=str(teacher / "teacher.parquet"), teacher_models=[str(teacher / "model")])


@pytest.fixture(scope="module")
def trained(jobs, tmp_path_factory) -> tuple[Path, Path]:
    """Folders of the trainings on one rank (here, as one batch) and on two (in two processes)."""
    alone, spread = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("spread")
    for name, job in jobs.items():
        stage = job.stages["only"] | {"queries_per_forward": 5}
        run_job(
            replace(job, stages={"only": stage}),
            alone / name / "checkpoints",
            lambda metrics, step: None,
            alone / name / "out",
        )
    for name, sharding in CASES:
        job = replace(jobs[name], scale={**jobs[name].scale, "num_workers": 2, "sharding": sharding})
        (spread / f"{name}-{sharding}.json").write_text(json.dumps(asdict(job)))
    run_ranks("train_ranks.py", spread, timeout=900)
    return alone, spread


@pytest.mark.parametrize(("name", "sharding"), CASES)
def test_two_ranks_equal_one(trained, name, sharding):
    alone, spread = (trained[0] / name / "out", trained[1] / f"{name}-{sharding}" / "out")
    expected, found = (
        [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()] for folder in (alone, spread)
    )
    assert len(expected) == 5
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"time", "queries_per_forward"}:
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3), key
    start, weights = load_file(alone / "model.safetensors"), load_file(spread / "model.safetensors")
    gaps = [float((weights[key] - value).abs().mean()) for key, value in start.items()]
    # Five steps of at most 1e-3 each: a wrong gradient moves weights by parts of that, rounding by far less.
    assert max(gaps) < 2e-5
