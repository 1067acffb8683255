"""`stillhouse job` against a real Ray head with its own token."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_nodes import head_node, node_environment

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """`stillhouse job ARGUMENTS` as a process, sent to a head of its own with a token of its own."""
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text("0123456789abcdef" * 4)
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with head_node(asks, num_cpus=1) as address:
        environment = node_environment(asks | {"RAY_DASHBOARD_ADDRESS": address})

        def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "stillhouse", "job", *arguments],
                cwd=home,
                env=environment | changes,
                capture_output=True,
                text=True,
                check=False,
                timeout=180,
            )

        yield run


def test_a_job_runs_there_and_its_error_and_status_come_back(call: Call) -> None:
    # The recipe is right, but what it names is not there: only the cluster finds out.
    done = call("submit", "score", "smoke", "--set", "collection.train=/nowhere/train")
    assert "/nowhere/train" in done.stdout, done.stderr
    assert "error: " in done.stdout
    assert "Traceback" not in done.stdout
    assert "note: output.path is a relative path" in done.stderr
    job = done.stdout.splitlines()[0]
    assert done.stderr.endswith(f"{job}: FAILED\n")
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
