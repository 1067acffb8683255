"""A failure is one readable line and a status that is not 0."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.console import NO_TELEMETRY, QUIET, guard, quiet
from stillhouse.errors import RecipeError


def fail_with(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["no-such-verb"], 2, "No such command 'no-such-verb'"),
        (["run"], 2, "Missing argument 'RECIPE'"),
        (["run", "demo", "--no-such-option"], 2, "--no-such-option"),
        (["tune", "demo", "--trials", "none"], 2, "--trials"),
        (["tune", "demo", "--trials", "0"], 2, "--trials"),
        (["job"], 2, "job --help"),
        (["run", "nowhere"], 1, "nowhere: no such file; shipped in jobs/recipes:"),
        (["plan", "demo", "--set", "sed=1"], 1, "demo.yaml: sed: unknown key; did you mean seed?"),
        (["train", "demo", "--set", "stages.distill.loss.temperature=-1"], 1, "greater than 0"),
        (["score", "demo", "--set", "seed"], 1, "--set seed: expected dotted.key=value"),
        (["report", "nowhere"], 1, "nowhere"),
        (["list", "schema", "trial"], 1, "list schema trial: expected recipe, space or suite"),
        (["list", "nothing"], 2, "nothing"),
        (["evaluate"], 1, "give either a RECIPE or --run FILE"),
        (["evaluate", "demo", "--run", "x.trec"], 1, "give either a RECIPE or --run FILE"),
        (["evaluate", "--run", "x.trec"], 1, "--collection"),
        (["scores", "show", "abc", "--store", "nowhere"], 1, "nowhere: 0 stores begin with 'abc'"),
        (["ui", "--tracking", "none"], 1, "records nothing"),
        (["ui", "--tracking", "sqlite:///nowhere/mlflow.db"], 1, "nothing is recorded there yet"),
        (["job", "status", "x", "--address", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9: no Ray dashboard answers"),
    ],
)
def test_one_line_on_stderr(
    arguments: list[str],
    status: int,
    expected: str,
    call: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.status == status
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert done.out == ""


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback_wherever_it_stands(place: int, call: Callable[..., Any]) -> None:
    arguments = ["run", "nowhere", "--verbose"]
    arguments.insert(place, "--debug")
    with pytest.raises(RecipeError, match="nowhere: no such file"):
        call(*arguments)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RecipeError("x.yaml: bad"), 1, "error: x.yaml: bad\n"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 1, "error: a/b: No such file or directory\n"),
        (PermissionError(13, "Permission denied"), 1, "error: Permission denied\n"),
        (ValueError("two\nlines"), 1, "error: ValueError: two lines (--debug shows where)\n"),
        (KeyError("k"), 1, "error: KeyError: 'k' (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_what_becomes_of_an_error(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(fail_with(error)) == status
    assert capsys.readouterr().err == line


def test_a_command_that_ends_well_is_0() -> None:
    assert guard(lambda: None) == 0
    assert guard(lambda: 3) == 3


def test_quiet_keeps_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_DEDUP_LOGS": "mine"})
    quiet()
    assert os.environ == {**NO_TELEMETRY, **QUIET, "RAY_DEDUP_LOGS": "mine"}


def test_verbose_lets_noise_through_but_sends_nothing_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    quiet(verbose=True)
    assert os.environ == NO_TELEMETRY
    assert {"RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"} == set(NO_TELEMETRY)
