"""jobs/*.py: thin verbs that run as they stand."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def run(path: Path, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "platform")}
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=900, env=environment
    )


def test_there_is_a_job_for_every_step() -> None:
    assert {path.stem for path in JOBS} == {"score", "train", "tune", "evaluate", "run"}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_it_is_thin_and_names_its_command(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) < 60
    docstring = ast.get_docstring(tree) or ""
    assert f"python jobs/{path.name} jobs/recipes/" in docstring
    for recipe in re.findall(r"jobs/recipes/\w+\.yaml", docstring):
        assert (ROOT / recipe).is_file()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_it_explains_itself_and_refuses_a_typo_in_one_line(path: Path, tmp_path: Path) -> None:
    assert "--set KEY=VALUE" in run(path, "--help").stdout
    done = run(path, "demo", "--set", "sed=1", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("sed: unknown key; did you mean seed?\n")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
