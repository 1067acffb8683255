"""`stillhouse job` against a real Ray head with its own token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.ray_nodes import RAY, SOURCE, Node, cluster_of, node_environment
from tests.conftest import write_backbone, write_folder

ROOT = Path(__file__).parents[2]
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """A command as a process of a user whose head has a token of its own; RAY_DASHBOARD_ADDRESS names the head."""
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text("0123456789abcdef" * 4)
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300"}
    with cluster_of(asks, num_cpus=1) as cluster:
        environment = node_environment(asks | {"RAY_DASHBOARD_ADDRESS": cluster.dashboard})

        def run(*command: str, folder: Path = home, **changes: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command,
                cwd=folder,
                env=environment | changes,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )

        run.cluster = cluster  # type: ignore[attr-defined]
        yield run


@pytest.fixture(scope="module")
def call(process: Call) -> Call:
    """`stillhouse job ARGUMENTS`."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return process(sys.executable, "-m", "stillhouse", "job", *arguments, **changes)

    return run


def dashboard(process: Call) -> str:
    return str(process.cluster.dashboard)  # type: ignore[attr-defined]


def add_other_node(process: Call, folder: Path) -> Node:
    """A second node, at another address, whose Python finds another version of transformers."""
    planted = folder / "transformers-4.0.0.dist-info"
    planted.mkdir(parents=True)
    (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.0.0\n")
    return process.cluster.add(0, PYTHONPATH=f"{folder}{os.pathsep}{SOURCE}")  # type: ignore[attr-defined]


def test_a_job_runs_there_and_its_error_and_status_come_back(call: Call) -> None:
    # The recipe is right, but what it names is not there: only the cluster finds out.
    done = call("submit", "score", "smoke", "--set", "collection.train=/nowhere/train")
    assert "/nowhere/train" in done.stdout, done.stderr
    assert "error: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "note: output.path is a relative path" in done.stderr
    job = done.stdout.splitlines()[0]
    assert done.stderr.endswith(f"{job}: FAILED\n")
    assert " INFO " not in done.stderr
    assert done.returncode == 1

    assert call("status", job).stdout == "FAILED\n"
    assert call("status", job).returncode == 1
    assert "/nowhere/train" in call("logs", job).stdout
    row = next(line for line in call("list").stdout.splitlines() if line.startswith(job)).split()
    assert row[1] == "FAILED"
    assert row[3:8] == ["python", "-m", "stillhouse", "score", "smoke.yaml"]


def test_a_job_that_is_stopped(call: Call) -> None:
    job = call("submit", "score", "smoke", "--no-wait").stdout.strip()
    assert call("stop", job).stdout == f"{job}: stopping\n"
    deadline = time.monotonic() + 60
    while (state := call("status", job).stdout.strip()) not in ("STOPPED", "FAILED", "SUCCEEDED"):
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert state == "STOPPED"


def test_without_the_token_nothing_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("f" * 64)
    done = call("list", RAY_AUTH_TOKEN_PATH=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "Ray asks for its token" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_job_that_is_not_there_is_one_line(call: Call) -> None:
    done = call("status", "nobody")
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert done.stderr.count("\n") == 1


def test_versions_are_compared_once_for_a_set_of_nodes(process: Call, call: Call, tmp_path: Path) -> None:
    doctor = [sys.executable, "-m", "stillhouse", "doctor", "--address", dashboard(process)]
    alone = process(*doctor)
    assert (alone.returncode, alone.stderr) == (0, "")
    heading, here, head, last = alone.stdout.splitlines()
    assert heading.split() == ["node", "CPU", "GPU", "Python", "ray", "torch", "transformers", "stillhouse"]
    # This machine and the head are one: equal columns.
    assert here.split()[2:] == head.split()[4:]
    assert head.split()[2:4] == ["1", "0"]
    assert last == "nothing differs on 1 node"

    def send(*more: str) -> None:
        sent = call("submit", "score", "smoke", "--no-wait", *more, STILLHOUSE_HOME=str(tmp_path))
        assert (sent.returncode, sent.stdout[:10]) == (0, "raysubmit_"), sent.stderr
        # What it would find out takes CPU from the rest.
        call("stop", sent.stdout.strip())

    checks = call("list").stdout.count("python versions.py")
    send()
    send()
    assert call("list").stdout.count("python versions.py") == checks + 1, (
        "two jobs were sent, and the nodes were looked at once"
    )

    other = add_other_node(process, tmp_path / "site")
    try:
        unlike = process(*doctor)
        assert unlike.returncode == 1
        assert "worker 127.0.0.2" in unlike.stdout
        assert "FAILS: worker 127.0.0.2 has transformers 4.0.0, the head " in unlike.stdout
        assert "nothing differs" not in unlike.stdout
        refused = call("submit", "score", "smoke", STILLHOUSE_HOME=str(tmp_path))
        assert refused.returncode == 1
        assert refused.stdout == ""
        error = refused.stderr.splitlines()[-1]
        assert error.startswith(f"error: {dashboard(process)}: worker 127.0.0.2 has transformers 4.0.0, the head ")
        assert error.endswith("or send the job with --no-check")
        send("--no-check")
    finally:
        other.kill()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git tracks, and what lies around in a folder that somebody works in."""
    folder = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0")[:-1]:
        if name.startswith((".", "jobs/", "platform/", "search_spaces/", "suites/", "tests/unit/test_jobs")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    planted = [".env", ".env.local", ".git/config", ".venv/bin/python", "data/corpus.jsonl", "deploy.pem", "hub.key"]
    for name in [*planted, "runs/a/x", ".stillhouse/mlflow.db", "platform/stillhouse/.env", "id_rsa", "auth_token"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("TOKEN=planted-secret")
    return folder


def submit_plainly(process: Call, checkout: Path, *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """The command that the pages show."""
    environment = '{"env_vars":{"PYTHONPATH":"platform"}}'
    command = [RAY, "job", "submit", "--working-dir", ".", "--runtime-env-json", environment, "--", *entrypoint]
    return process(*command, folder=checkout, RAY_ADDRESS=dashboard(process))


def test_ray_job_submit_takes_the_code_and_nothing_private(process: Call, checkout: Path) -> None:
    tune = "python jobs/tune.py smoke --set collection.train=/nowhere/train --trials 1"
    done = submit_plainly(process, checkout, "sh", "-c", f"grep -rh planted .; find . -type f; {tune}")
    assert done.returncode == 1
    arrived = {line[2:] for line in done.stdout.splitlines() if line.startswith("./")}
    assert {"jobs/tune.py", "jobs/recipes/smoke.yaml", "search_spaces/smoke.yaml"} <= arrived
    assert "platform/stillhouse/cluster.py" in arrived
    tops = {name.partition("/")[0] for name in arrived}
    assert tops <= {"jobs", "platform", "search_spaces", "suites", ".gitignore", ".rayignore"}
    assert "planted-secret" not in done.stdout
    assert not [name for name in arrived if ".env" in name]
    # Its error is one line among Ray's own.
    assert "/nowhere/train" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_ray_job_submit_searches(process: Call, checkout: Path, tmp_path: Path) -> None:
    data = str(write_folder(tmp_path / "collection"))
    tower = {"backbone": str(write_backbone(tmp_path / "backbone")), "query_max_length": 8, "doc_max_length": 24}
    stage = {"loss": {"name": "contrastive"}, "groups": {"num_negatives": 2}, "evaluations": 1}
    recipe = {
        "name": "tiny",
        "output": {"path": str(tmp_path / "out")},
        "collection": {"train": data, "dev": data, "test": data},
        "candidates": {"source": "bm25", "depth": 6},
        "teachers": {"cross": {"ranker": "cross_encoder", **tower, "stages": {"label": stage}}},
        "store": {"path": str(tmp_path / "scores"), "partitions": 1, "actors": 0},
        "student": {"ranker": "dual_encoder", **tower},
        "stages": {"distill": {"loss": {"name": "kl"}, "groups": {"num_negatives": 2}}},
        "search": {"space": "tiny_space.yaml"},
        "tracking": {"uri": "none"},
    }
    space = {"space": {"stages.distill.loss.temperature": {"choice": [1.0, 2.0]}}, "sampler": "grid", "trials": 2}
    (checkout / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    (checkout / "tiny_space.yaml").write_text(yaml.safe_dump(space))
    done = submit_plainly(process, checkout, "python", "jobs/tune.py", "tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "scores").rglob("part=*/*.parquet"))
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert found["cost"]["states"] == {"FINISHED": 2}
