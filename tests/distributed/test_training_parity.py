"""Training on two ranks equals training on one; a killed training equals an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stillhouse.training.job import TrainingJob
from tests.contracts.ports import free_port
from tests.contracts.training_jobs import STAGE, toy_job

SCRIPT = Path(__file__).with_name("train_rank.py")
PLATFORM = Path(__file__).parents[2] / "platform"


@pytest.fixture(scope="module")
def job(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> TrainingJob:
    stage = {
        **STAGE,
        "extra_losses": {"label": {"name": "contrastive", "weight": 0.3}, "mlm": {"name": "mlm"}},
        "token_dropout": 0.1,
        "optimizer": {"learning_rate": 1e-3, "schedule": "plateau"},
        "early_stopping": 1,
    }
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.parquet"
    return toy_job(toy, workspace, backbone, {"distill": stage}, teacher=teacher)


def start(job: TrainingJob, folder: Path, ranks: int = 1, pause: float = 0.0) -> list[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    port = free_port()
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
    outputs = [process.communicate(timeout=300)[0] for process in processes]
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
