"""docs/cluster.md: every typed command parses, and what it names is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.scripts.scripts import cli as ray_cli

from stillhouse.cli.app import app
from stillhouse.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
LINES = [line[2:] for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")]
OURS: Any = typer.main.get_command(app)
PROGRAMS = {"stillhouse", "ray", "ssh", "ssh-keygen", "scp", "export", "docker", "kubectl", "sbatch", "tail"}


def parsed(command: Any, words: list[str]) -> dict[str, Any]:
    """The values of a command line, as the program itself would read it."""
    name = ""
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"No such command {name}"
        command = command.commands[name]
    return dict(command.make_context(name, words).params)


def words_of(line: str) -> list[str]:
    words = shlex.split(line)
    while re.fullmatch(r"\w+=\S*", words[0]):
        words.pop(0)
    return words[:-1] if words[-1] == "&" else words


@pytest.mark.parametrize("line", LINES)
def test_a_typed_command_parses(line: str) -> None:
    program, *words = words_of(line)
    assert program in PROGRAMS
    for word in words:
        for name in re.findall(r"(?:deploy/[\w./-]+|^cluster\.yaml|^jobs/\w+\.py)", word):
            assert (ROOT / name).exists(), name
    if program == "stillhouse":
        values = parsed(OURS, words)
        if values.get("recipe"):
            load_recipe(values["recipe"], values["overrides"])
    elif program == "ray" and words[0] == "job":
        # What Ray runs is checked as its own program would be.
        values = parsed(ray_cli, words)
        assert values["working_dir"] == "."
        assert json.loads(values["runtime_env_json"]) == {"env_vars": {"PYTHONPATH": "platform"}}
        python, script, recipe, *options = values["entrypoint"]
        assert python == "python"
        assert (ROOT / script).is_file()
        load_recipe(recipe, options[1::2])
    elif program == "ray":
        parsed(ray_cli, words)
    elif program == "sbatch":
        script = next(number for number, word in enumerate(words) if word.endswith(".sbatch"))
        verb, recipe, *options = words[script + 1 :]
        assert verb in OURS.commands
        load_recipe(recipe, options[1::2])


def test_the_parser_refuses_mistakes() -> None:
    for command, words in (
        (OURS, ["doctor", "--adress", "x"]),
        (OURS, ["job", "submt", "run", "demo"]),
        (ray_cli, ["dashboard", "cluster.yaml", "--prt", "1"]),
    ):
        with pytest.raises(Exception, match="No such"):
            parsed(command, words)


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (ROOT / "docs" / target).exists()
