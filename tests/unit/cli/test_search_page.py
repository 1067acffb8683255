"""docs/search.md is true: its commands exist, its space and keys are ones; and how its report is published."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.search_page import publish
from stillhouse.cli.app import app
from stillhouse.errors import StillhouseError
from stillhouse.pipeline.check import check, searched_space
from stillhouse.recipe import load_recipe, override
from stillhouse.recipe.text import parse_yaml
from stillhouse.search import check_space, importance, make_space

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "search.md").read_text()
LINES = [line for line in PAGE.splitlines() if line.startswith(("stillhouse ", "make "))]
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_commands_are_ones_and_their_recipes_can_be_searched() -> None:
    commands = [shlex.split(line) for line in LINES if line.startswith("stillhouse ")]
    assert len(commands) == 6
    for _, verb, *rest in commands:
        options = {option for parameter in VERBS[verb].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, rest
        if verb == "tune":
            changes = [rest[place + 1] for place, word in enumerate(rest) if word == "--set"]
            changes += [f"search.space={rest[place + 1]}" for place, word in enumerate(rest) if word == "--space"]
            check(load_recipe(rest[0], changes))
    for line in LINES:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_space_and_the_keys_of_the_page_fit_a_recipe() -> None:
    space, keys = (parse_yaml(block, "docs/search.md") for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    demo = load_recipe("demo")
    check_space(make_space(space), demo)
    assert set(keys) == {"search"}
    searched = override(demo, {f"search.{key}": value for key, value in keys["search"].items() if key != "space"})
    assert searched.search is not None
    assert searched.search.confirm_seeds == 3


def test_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"shuffled over the trials, {importance.SHUFFLES} times" in PAGE
    assert f"and above {importance.MIN_SHARE:.0%}".replace("%", " %") in PAGE
    assert importance.MIN_TRIALS == 6
    assert "Below six trials" in PAGE
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_whole_search_is_one() -> None:
    recipe = load_recipe("pydocs-search")
    space, trial = searched_space(recipe)
    assert space.trials >= 24
    assert {key.rpartition(".")[2] for key in space.space} == {"temperature", "num_negatives", "learning_rate"}
    assert space.scheduler.name == "asha"
    assert recipe.search is not None
    assert recipe.search.confirm_seeds == 3
    # The recipe's own values are tried first, so that the best on dev is no worse than they.
    assert override(trial, space.start[0]) == trial


def test_a_report_is_published_without_paths_of_the_machine(
    tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.contracts.search_studies import write_study

    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    write_study(tmp_path)
    run, docs = tmp_path / "run", tmp_path / "docs"
    assert call("study", "-o", run / "search.html").status == 0
    written = publish(run, docs)
    assert {path.name for path in written} >= {"search.md", "search.json", "history.svg"}
    linked = re.findall(r"\]\((search_files/[^)]+)\)", (docs / "search.md").read_text())
    assert linked
    assert all((docs / one).exists() for one in linked)
    (run / "search.md").write_text("in /home/someone/runs it was")
    with pytest.raises(StillhouseError, match=r"search\.md: names /home/someone/runs, a path of this machine"):
        publish(run, docs)
    (run / "search.md").unlink()
    with pytest.raises(StillhouseError, match=r"search\.md: not there"):
        publish(run, docs)
