"""`stillhouse study`: of a study that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.search import importance
from stillhouse.search.question import read_question
from tests.contracts.search_studies import make_search_recipe, make_search_space, write_study


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    # What chance gives is tested elsewhere, and is most of the time of a report.
    monkeypatch.setattr(importance, "SHUFFLES", 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_only_study_needs_no_name(call: Callable[..., Any], home: Path, tmp_path: Path) -> None:
    folder = write_study(home)
    assert read_question(folder.path) == (make_search_recipe(), make_search_space())
    done = call("study", "-o", tmp_path / "found.html")
    assert done.status == 0
    assert "Best on dev: trial 13 with nDCG@10 0.5000" in done.out
    assert json.loads((tmp_path / "found.json").read_text())["study"] == "abc"
    assert (tmp_path / "found_files" / "history.svg").exists()
    assert call("study", folder.path, "-o", tmp_path / "again.html").out.startswith(done.out[:50])


def test_which_study_must_be_said(call: Callable[..., Any], home: Path, tmp_path: Path) -> None:
    done = call("study")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "which study; give the id, or the beginning of it, of one of: none" in done.err
    for name in ("abc1", "abd2"):
        write_study(home, name)
    assert "study ab: 2 of that name; give the id" in call("study", "ab").err
    assert "abc1 (toy), abd2 (toy)" in call("study").err
    (home / "studies" / "abd2" / "question.json").unlink()
    done = call("study", "abd", "-o", tmp_path / "x.html")
    assert "no question.json, which says what was searched" in done.err
    assert "call it x.html" in call("study", "abc", "-o", "x.md").err
