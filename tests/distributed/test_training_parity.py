"""Training on two ranks equals training on one; a killed training equals an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stillhouse.recipe.tree import CandidatesSpec, EvaluationSpec, ScaleSpec, StageSpec
from stillhouse.training.job import TrainingJob
from stillhouse.training.teacher import write_teacher_scores

SCRIPT = Path(__file__).with_name("train_rank.py")
PLATFORM = Path(__file__).parents[2] / "platform"


@pytest.fixture(scope="module")
def job(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> TrainingJob:
    import numpy as np

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
            "extra_losses": {"label": {"name": "contrastive", "weight": 0.3}, "mlm": {"name": "mlm"}},
            "token_dropout": 0.1,
            "groups": {"num_negatives": 4},
            "optimizer": {"learning_rate": 1e-3, "schedule": "plateau"},
            "early_stopping": 2,
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


def start(job: TrainingJob, folder: Path, ranks: int = 1, pause: float = 0.0) -> list[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [folder / "job.json", folder / "ckpt", folder / "out", pause]
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    settings = {
        **os.environ,
        "PYTHONPATH": str(PLATFORM),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(command, env={**settings, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[dict[str, float]]:
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(line) for line in outputs[0].splitlines() if line.startswith("{")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return folder, finish(start(job, folder))


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_equal_one(job, alone, sharding, tmp_path):
    _, reports = alone
    spread = replace(job, scale={**job.scale, "num_workers": 2, "sharding": sharding})
    others = finish(start(spread, tmp_path, ranks=2))
    assert [report["step"] for report in others] == [report["step"] for report in reports] == [3, 5]
    equal_to(alone, tmp_path, others)


def equal_to(alone, tmp_path, others):
    """The last reports and the weights of a training are those of one rank that nothing stopped."""
    folder, reports = alone
    for ours, theirs in zip(others, reports[-len(others) :], strict=True):
        for name in ("train/loss", "train/label", "train/mlm", "train/grad_norm", "train/kl", "nDCG@10"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    mine, expected = weights(tmp_path), weights(folder)
    assert mine.keys() == expected.keys()
    moved = 0.0
    for name, value in expected.items():
        # Adam divides by the root of the squared gradient: where that is near 0 rounding moves a weight by part of a
        # step, which is at most 1e-3 x 5 here.
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=2e-4)
        moved += float((mine[name] - value).abs().sum())
    assert moved / sum(value.numel() for value in expected.values()) < 1e-6


def test_two_killed_ranks_go_on_where_their_checkpoint_stands(job, alone, tmp_path):
    spread = replace(job, scale={**job.scale, "num_workers": 2, "sharding": "ddp"})
    processes = start(spread, tmp_path, ranks=2, pause=30)
    line = processes[0].stdout.readline()
    while not line.startswith("{"):
        line = processes[0].stdout.readline()
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    assert json.loads(line)["step"] == 3
    reports = finish(start(spread, tmp_path, ranks=2))
    assert [report["step"] for report in reports] == [5]
    equal_to(alone, tmp_path, reports)
