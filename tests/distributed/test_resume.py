"""A training killed after any step ends as one that was not: weights, curve, learning rate and stops."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.contracts.training_jobs import toy_job

ROOT = Path(__file__).parents[2]
STAGE = {
    "loss": {"name": "kl", "temperature": 2.0},
    "extra_losses": {"label": {"name": "contrastive", "weight": 0.3}, "mlm": {"name": "mlm"}},
    "token_dropout": 0.1,
    "groups": {"num_negatives": 4},
    "queries_per_step": 8,
    "queries_per_forward": 3,
}
STAGES = {
    # Rates that make dev rise and fall, so that the rate is lowered and the stage ends early.
    "c": STAGE
    | {
        "epochs": 6,
        "evaluations": 9,
        "early_stopping": 3,
        "optimizer": {"learning_rate": 0.05, "schedule": "plateau", "warmup_fraction": 0.1},
    },
    "d": STAGE | {"evaluations": 2, "optimizer": {"learning_rate": 1e-3}, "queries_per_forward": "auto"},
}


def curve(folder: Path) -> list[dict[str, float]]:
    points = [json.loads(line) for line in (folder / "out" / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in point.items() if name != "time"} for point in points]


@pytest.fixture(scope="module")
def runs(toy, workspace, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    options = {"dropout": 0.1, "output_dropout": 0.1}
    job = toy_job(toy, workspace, backbone, STAGES, teacher=folder / "teacher.parquet", ranker=options)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    # In the first stage anywhere, and in the second before its last step.
    steps = [*random.Random(4).sample(range(1, 12), 3), -2]
    command = [sys.executable, str(Path(__file__).with_name("kill_steps.py")), str(folder / "job.json"), str(folder)]
    settings = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, steps)], env=settings, timeout=900, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, steps


def test_the_whole_run_meets_every_turn(runs):
    folder, _ = runs
    points = curve(folder / "whole")
    rates = [point["learning_rate"] for point in points]
    # 18 steps at most in the first stage, 3 in the second: it ended early, and its rate had been halved before.
    assert len(points) < 18 + 3
    assert any(later == pytest.approx(0.5 * earlier) for earlier, later in pairwise(rates[2:-3]))
    assert all("mlm" in point and "label" in point for point in points)


def test_a_killed_run_equals_it_bit_for_bit(runs):
    folder, steps = runs
    expected = load_file(folder / "whole" / "out" / "model.safetensors")
    result = json.loads((folder / "whole" / "result.json").read_text())
    for step in steps:
        killed = folder / f"killed-{step}"
        assert curve(killed) == curve(folder / "whole"), step
        assert json.loads((killed / "result.json").read_text()) == result
        found = load_file(killed / "out" / "model.safetensors")
        assert all(torch.equal(found[name], value) for name, value in expected.items()), step
