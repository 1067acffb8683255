"""The README is true: its commands exist, its names resolve, its files are there, its tables are whole."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from stillhouse.cli.app import app
from stillhouse.pipeline.check import check
from stillhouse.recipe import load_recipe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith(("stillhouse ", "make "))
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one(words):
    program, verb, *rest = words
    if program == "make":
        assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert verb in VERBS
    overrides = [rest[i + 1] for i, word in enumerate(rest) if word == "--set"]
    overrides += [f"search.space={rest[i + 1]}" for i, word in enumerate(rest) if word == "--space"]
    if verb in ("run", "tune") and rest[0] != "mine.yaml":
        check(load_recipe(rest[0], overrides))


def test_python_is_python():
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec")


def test_files_are_there_and_nothing_is_left_open():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    assert "@@" not in README
    assert README.count("| distilled student |") == 2  # the table of the demo and that of the full size
