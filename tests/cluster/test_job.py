"""`stillhouse job` against a real Ray head with its own token."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stillhouse

SOURCE = str(Path(stillhouse.__file__).parents[1])
HEAD = """
import sys, ray
head = ray.init(num_cpus=1, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=0, log_to_driver=False)
print("http://" + head.dashboard_url, flush=True)
sys.stdin.read()
"""
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """`stillhouse job ARGUMENTS` as a process, sent to a head of its own with a token of its own."""
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text("0123456789abcdef" * 4)
    own = {"PYTHONPATH": SOURCE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    # A job's `python` is the one on the head's PATH.
    own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own
    command = [sys.executable, "-c", HEAD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as head:
        assert head.stdout is not None
        address = next((line.strip() for line in head.stdout if line.startswith("http://")), None)
        assert address, "the head did not start"

        def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "stillhouse", "job", *arguments],
                cwd=home,
                env=environment | {"RAY_DASHBOARD_ADDRESS": address} | changes,
                capture_output=True,
                text=True,
                check=False,
                timeout=180,
            )

        yield run
        head.communicate("")


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
