"""deploy/slurm/stillhouse.sbatch: three real Ray nodes on one machine, with the scheduler's commands as small scripts.

All else is real: the script, Ray, its token, the command and the end of it all.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil

from tests.contracts.slurm import SCRIPT, allocation


def test_the_cluster_comes_runs_the_command_and_goes(tmp_path: Path) -> None:
    environment = allocation(tmp_path)
    try:
        done = subprocess.run(
            ["bash", str(SCRIPT), "run", "demo", "--set", "output.path=/shared/a b"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    finally:
        shutil.rmtree(environment["FAKE_TEMP"], ignore_errors=True)
    lines = done.stdout.splitlines()
    assert "3 nodes: 3 CPU, 0 GPU" in lines, done.stdout + done.stderr
    assert "arguments run demo --set output.path=/shared/a b" in lines
    # Three nodes with addresses of their own; Ray may name the head by another of this machine's.
    (addresses,) = [line.split()[1:] for line in lines if line.startswith("addresses")]
    assert len(set(addresses)) == 3
    assert {"127.0.0.2", "127.0.0.3"} <= set(addresses)
    assert "CPUs 3" in lines
    assert done.returncode == 7, "the status of the command is that of the batch job"
    assert not list(tmp_path.glob(".stillhouse/slurm/*")), "the token is gone"
    left = [
        one
        for one in psutil.process_iter(["cmdline"])
        if environment["FAKE_TEMP"] in " ".join(one.info["cmdline"] or [])
    ]
    assert not left
