"""A training that is asked to end keeps a checkpoint of the step it has made, and goes on there."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stillhouse.errors import RecipeError, TrainingError
from stillhouse.pipeline import context
from stillhouse.training.job import TrainingJob
from stillhouse.training.notice import until_sigterm
from stillhouse.training.run import run_job
from tests.contracts.training_jobs import STAGE, toy_job


def train(job: TrainingJob, folder: Path) -> None:
    with until_sigterm() as notice:
        run_job(job, folder / "ckpt", lambda metrics, step: None, folder / "out", notice=notice)


def test_sigterm_costs_no_step(toy, toy_candidates, workspace, backbone, tmp_path):
    stage = STAGE | {"epochs": 8, "evaluations": 1}
    job = toy_job(toy, workspace, backbone, {"distill": stage}, teacher=tmp_path / "teacher.parquet")
    train(job, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    curve = tmp_path / "ckpt" / "curve.jsonl"

    def end_in_the_middle() -> None:
        while not (curve.exists() and len(curve.read_text().splitlines()) >= 3):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    scheduler = threading.Thread(target=end_in_the_middle)
    scheduler.start()
    with pytest.raises(TrainingError, match=r"ended by SIGTERM: the checkpoint of step \d+ is kept") as caught:
        train(job, tmp_path)
    scheduler.join()
    assert signal.getsignal(signal.SIGTERM) is before
    step = int(re.search(r"step (\d+)", str(caught.value))[1])
    assert 3 <= step == len(curve.read_text().splitlines()) < 40
    assert [path.name for path in tmp_path.glob("ckpt/step-*")] == [f"step-{step:08d}"]

    train(job, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "curve.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))
    expected, found = (load_file(folder / "out" / "model.safetensors") for folder in (tmp_path / "whole", tmp_path))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_checkpoints_need_a_folder(monkeypatch):
    monkeypatch.setenv("STILLHOUSE_HOME", "s3://bucket/work")
    with pytest.raises(RecipeError, match="STILLHOUSE_HOME: s3://bucket/work is no folder: give one on storage that"):
        context.workspace()
