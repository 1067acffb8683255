"""docs/performance.md says what the files of benchmarks/results/ hold, and a goal that was missed says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measured import RESULTS, Result, Row, alternate, read_result, spread, write_result
from benchmarks.page import page

ROOT = Path(__file__).parents[2]
FACTS: dict[str, Any] = {
    "question": "How fast is it?",
    "command": "python -m benchmarks.fast",
    "goal": "at least 1.5 times the peer",
    "machine": {"cpu": "Some CPU", "cores": 2, "threads": 1},
    "versions": {"torch": "2.13.0"},
    "rows": [
        {"name": "float32", "value": 1234.5, "unit": "pairs/s", "ratio": 1.678, "spread": 0.0234, "reached": True},
        {"name": "bfloat16", "value": 2.5, "unit": "pairs/s", "ratio": 1.2, "reached": False},
    ],
}


def write(folder: Path, name: str, facts: dict[str, Any]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(facts))


def test_the_page_is_that_of_the_results() -> None:
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == page(), (
        "docs/performance.md is old: make docs"
    )
    questions = [path for path in RESULTS.glob("*.json") if "question" in json.loads(path.read_text())]
    assert questions
    for path in questions:
        assert read_result(path).question in page()


def test_a_section_holds_goal_numbers_notes_and_command(tmp_path: Path) -> None:
    write(tmp_path, "fast", FACTS)
    (tmp_path / "fast.md").write_text("A larger batch: no gain.\n")
    text = page(tmp_path, tmp_path)
    assert "| [How fast is it?](#how-fast-is-it) | at least 1.5 times the peer | **not reached**: bfloat16 |" in text
    assert "| float32 | 1,234 pairs/s | 1.68 | 2.3% | reached |" in text
    assert "| bfloat16 | 2.5 pairs/s | 1.2 |  | **not reached** |" in text
    assert "\nA larger batch: no gain.\n" in text
    assert "`python -m benchmarks.fast` writes [fast.json](../benchmarks/results/fast.json)." in text
    assert "Some CPU, 2 cores, 1 torch threads; torch 2.13.0." in text


def test_a_missed_goal_needs_words(tmp_path: Path) -> None:
    write(tmp_path, "fast", FACTS)
    with pytest.raises(ValueError, match=r"fast\.json: a goal was not reached; say what was tried"):
        page(tmp_path, tmp_path)


def test_a_file_without_what_the_page_needs_is_named(tmp_path: Path) -> None:
    write(tmp_path, "fast", {name: value for name, value in FACTS.items() if name != "goal"})
    with pytest.raises(ValueError, match=r"fast\.json: goal: Field required"):
        page(tmp_path, tmp_path)


def test_columns_of_values_and_files_of_other_pages(tmp_path: Path) -> None:
    rows = [
        {"name": "small", "values": {"peak": 1838.4, "seconds": 10.3}},
        {"name": "large", "values": {"peak": 0.25}, "reached": True},
    ]
    write(tmp_path, "memory", FACTS | {"rows": rows})
    write(tmp_path, "parity", {"max_difference": 1e-6})
    text = page(tmp_path, tmp_path)
    assert "|  | peak | seconds | goal |\n|---|---:|---:|---:|\n| small | 1,838 | 10.3 |  |\n" in text
    assert "| large | 0.25 |  | reached |\n" in text
    assert "parity" not in text


def test_written_and_read_again(tmp_path: Path) -> None:
    facts = FACTS | {"rows": [Row(name="float32", value=2.0, raw=[1.9, 2.1])], "pairs": 7}
    write_result(Result(**facts), tmp_path / "one.json")
    result = read_result(tmp_path / "one.json")
    assert result == Result(**facts)
    assert result.model_extra == {"pairs": 7}


def test_ways_take_turns_and_spread_is_by_the_median() -> None:
    order: list[str] = []
    seconds = alternate({"ours": lambda: order.append("ours"), "theirs": lambda: order.append("theirs")}, 3)
    assert order == ["ours", "theirs"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"ours": 3, "theirs": 3}
    assert spread([1.0, 2.0, 4.0]) == 1.5
