"""Every verb explains itself, at once, and without loading what it needs to work."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stillhouse
from stillhouse.cli.app import app

VERBS = ["run", "score", "train", "tune", "evaluate", "rerank", "plan", "new", "report", "ui", "list", "doctor"]
VERBS += ["import", "export", "repeat", "reproduce", "retrieve", "suite", "cost", "study"]
VERBS += [f"scores {verb}" for verb in ("list", "show", "verify", "export", "import", "merge", "gc")]
VERBS += [f"job {verb}" for verb in ("submit", "status", "logs", "stop", "list")]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(stillhouse.__file__).parents[1])}


def registered(group: Any, prefix: str = "") -> Iterator[str]:
    yield from (f"{prefix}{command.name or command.callback.__name__}" for command in group.registered_commands)
    for inner in group.registered_groups:
        yield from registered(inner.typer_instance, f"{prefix}{inner.name} ")


def test_these_are_all_verbs() -> None:
    assert set(registered(app)) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_of_the_verb(verb: str, call: Callable[..., Any]) -> None:
    done = call(*verb.split(), "--help")
    assert done.status == 0
    assert f"stillhouse {verb}" in done.out.partition("Examples:")[2]
    assert "<class" not in done.out, "a default that is no value"


@pytest.mark.parametrize("verb", VERBS)
def test_examples_parse(verb: str, call: Callable[..., Any]) -> None:
    """The options of an example exist: with an unknown one added, that one is what is refused."""
    text = call(*verb.split(), "--help").out.partition("Examples:\n")[2].partition("\n\n")[0].replace("\\\n", " ")
    examples = [line.split(" > ")[0].strip() for line in text.splitlines()]
    assert examples
    for example in examples:
        words = example.replace('"', "").removeprefix(f"stillhouse {verb}").split()
        before = words[: words.index("--")] if "--" in words else words
        done = call(*verb.split(), "--no-such-option", *before)
        assert done.status == 2
        assert "--no-such-option" in done.err
        known = call(*verb.split(), "--help").out
        for word in before:
            assert not word.startswith("--") or word in known, f"{example}: {word}"


def test_the_list_of_verbs_is_whole(call: Callable[..., Any]) -> None:
    for arguments in ([], ["--help"]):
        done = call(*arguments)
        assert done.status == 0
        for verb in VERBS:
            assert f"\n  {verb.split()[0]} " in done.out
        assert "..." not in done.out.partition("Commands:")[2], "each verb is told in one line"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, json; from stillhouse.cli import main; status = main(['--help']); "
        "print(json.dumps([status, sorted({name.partition('.')[0] for name in sys.modules})]), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    status, modules = json.loads(done.stderr)
    assert status == 0
    assert not {"torch", "ray", "mlflow", "transformers", "pyarrow", "numpy", "pydantic", "optuna"} & set(modules)
    # Of the processor, not of the clock: the machine may be busy. It takes about 0.1 s.
    assert min(seconds) < 0.3


def test_version(call: Callable[..., Any]) -> None:
    assert call("--version").out == f"stillhouse {stillhouse.__version__}\n"
