"""deploy/slurm/stillhouse.sbatch: its form and its errors, with the scheduler's commands as small scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.contracts.slurm import SCRIPT, allocation


def test_a_head_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    environment = allocation(tmp_path)
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), "run", "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the head on n1 (127.0.0.1:2")
    assert done.stderr.count("\n") == 1


def test_without_a_verb_it_says_how_it_is_called(tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(SCRIPT)], env=allocation(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: sbatch ")


def test_it_is_clean() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
