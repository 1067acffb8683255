"""A head that dies in mid-job and comes back: what `stillhouse job` says, and what the same command does then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from stillhouse.training.curve import read_points
from tests.cluster.ray_nodes import PATIENCE_S, Cluster, cluster_of, wait_for

STAGE = {
    "loss": {"name": "contrastive"},
    "groups": {"num_negatives": 2},
    "queries_per_step": 8,
    "optimizer": {"learning_rate": 1e-4},
    "evaluations": 1,
}
LONG = {"epochs": 500, "evaluations": 10}
STEPS, BETWEEN = 1500, 150
"""24 queries in steps of 8; a checkpoint every 150 steps, of some ten milliseconds each."""


@pytest.fixture
def head() -> Iterator[Cluster]:
    with cluster_of({}, num_cpus=1) as one:
        yield one


def found(models: Path) -> list[Path]:
    """What says that a model is finished."""
    return list(models.glob("*/done.json"))


def recipe(folder: Path, collection: Path, backbone: Path) -> Path:
    sizes = {"backbone": str(backbone), "query_max_length": 16, "doc_max_length": 32}
    tree = {
        "name": "toy",
        "output": {"path": str(folder / "out")},
        "collection": dict.fromkeys(("train", "dev", "test"), str(collection)),
        "candidates": {"depth": 12},
        "teachers": {
            "quick": {"ranker": "cross_encoder", **sizes, "stages": {"label": STAGE}},
            # Trained second.
            "slow": {"ranker": "cross_encoder", **sizes, "stages": {"label": STAGE | LONG}},
        },
        "store": {"path": str(folder / "scores"), "actors": 0},
        "student": {"ranker": "dual_encoder", **sizes},
        "stages": {"distill": {**STAGE, "loss": {"name": "kl"}}},
        "tracking": {"uri": "none"},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_a_restarted_head_knows_no_job_and_the_same_command_goes_on(
    head: Cluster, collection_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    command = ["submit", "score", str(recipe(tmp_path, collection_folder, backbone)), "--set", "seed=1"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stillhouse", "job", *arguments],
            env=head.settings() | {"RAY_DASHBOARD_ADDRESS": head.dashboard},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    sent = call(*command, "--no-wait")
    assert sent.returncode == 0, sent.stderr
    job = sent.stdout.strip()
    # Beside the scores: storage that outlives the head.
    home = tmp_path / ".stillhouse"
    models = home / "models"
    wait_for(lambda: list(home.glob("training/*/step-*/progress.json")) != [] and len(found(models)) == 1)
    assert call("status", job).stdout == "RUNNING\n"
    (done,) = found(models)
    assert json.loads(done.read_text())["name"] == "teacher quick"
    kept = done.stat().st_mtime_ns

    head.head.kill()
    gone = call("status", job)
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1), gone.stderr
    assert "no Ray dashboard answers" in gone.stderr

    head.restart()
    unknown = call("status", job)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1), unknown.stderr
    assert f"{job}: this head knows no such job" in unknown.stderr
    assert "run the same command again" in unknown.stderr

    again = call(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr.endswith(": SUCCEEDED\n")
    assert done.stat().st_mtime_ns == kept
    (slow,) = [path.parent / "curve.jsonl" for path in found(models) if path != done]
    points = read_points(slow)
    assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    pauses = [later["time"] - earlier["time"] for earlier, later in pairwise(points)]
    # Nothing happened for longest between the checkpoint and the second start.
    assert (pauses.index(max(pauses)) + 1) % BETWEEN == 0
    assert len(list((tmp_path / "scores").glob("*/manifest.json"))) == 2
