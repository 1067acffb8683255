"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.cli.reference import pages

DOCS = Path(__file__).parents[3] / "docs"


def test_the_pages_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name, text in pages().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"docs/{name} is old: make docs"


def test_they_tell_keys_with_bounds_and_meaning() -> None:
    text = pages()["recipe.md"]
    assert "| `seed` | integer >= 0 and < 2147483648 | `0` | |" in text
    assert "| `query_max_length` | integer >= 1 and <= 1000000 | `64` | Cap on a query's own tokens" in text
    assert "[ScoresTeacher](#scoresteacher)" in text
