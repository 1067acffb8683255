"""deploy/slurm/stillhouse.sbatch: its form and its errors, with the scheduler's commands as small scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.ray_nodes import node_environment
from tests.contracts.ports import free_port

SCRIPT = Path(__file__).parents[3] / "deploy" / "slurm" / "stillhouse.sbatch"

FAKES = {
    "scontrol": 'printf "n1\\nn2\\nn3\\n"',
    "srun": """
for word in "$@"; do
    case "$word" in
        --nodelist=*) export FAKE_NODE="${word#--nodelist=n}"; shift ;;
        --*) shift ;;
        *) break ;;
    esac
done
exec "$@"
""",
    # As some machines answer: two addresses, one of them of IPv6.
    "hostname": 'echo "fe80::$FAKE_NODE 127.0.0.$FAKE_NODE"',
}


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch job of three nodes with one CPU each."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in FAKES.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (commands / name).chmod(0o755)
    environment = node_environment({})
    environment |= {"PATH": f"{commands}:{environment['PATH']}", "SLURM_JOB_NODELIST": "n[1-3]"}
    environment |= {"SLURM_JOB_ID": str(free_port() % 10000), "SLURM_CPUS_PER_TASK": "1", "STILLHOUSE_PATIENCE": "240"}
    return environment


def test_a_head_that_does_not_start_is_one_line(allocation: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), "run", "demo"], cwd=tmp_path, env=allocation, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the head on n1 (127.0.0.1:2")
    assert done.stderr.count("\n") == 1


def test_without_a_verb_it_says_how_it_is_called(allocation: dict[str, str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT)], env=allocation, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: sbatch ")


def test_it_is_clean() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
