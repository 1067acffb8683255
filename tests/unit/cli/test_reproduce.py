"""`stillhouse reproduce`: what is refused before anything is spent, and the page without a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "demo: no such experiment; there are hofstatter-losses-mini, "),
        (["menon-losses-mini", "--seeds", "a"], "--seeds a: expected numbers with commas between"),
        (["menon-losses-mini", "--seeds", "1,1"], "--seeds 1,1: each seed once"),
        (["--page-only"], "reproductions.json: not there; run `stillhouse reproduce` first"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], said: str, call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    done = call("reproduce", *arguments, "--docs", tmp_path)
    assert done.status == 1
    assert said in done.err
    assert done.err.count("\n") == 1


def test_without_the_collection_nothing_is_spent(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    done = call("reproduce", "menon-losses-mini", "--results", tmp_path / "results", "--docs", tmp_path)
    assert done.status == 1
    assert "$STILLHOUSE_DATA/medquad/train: no folder medquad in " in done.err


def test_the_page_is_written_from_the_record(call: Callable[..., Any], tmp_path: Path) -> None:
    machine = {"cores": 2, "processor": "x86_64", "dtype": "bfloat16"}
    (tmp_path / "reproductions.json").write_text(json.dumps({"machine": machine, "experiments": {}}))
    assert call("reproduce", "--page-only", "--docs", tmp_path).status == 0
    assert (tmp_path / "reproductions.md").read_text().startswith("# Reproductions\n")


def test_names_of_a_full_recipe_are_resolved(call: Callable[..., Any]) -> None:
    done = call("plan", "menon-losses", "--names-only")
    assert done.status == 0
    assert "collection.test: msmarco-passage/dev/small: ir_datasets id" in done.out
    assert "baselines.m3se.stages.train: m3se, teacher_top, learning rate 2.8e-05" in done.out
