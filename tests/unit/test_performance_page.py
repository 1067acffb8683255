"""docs/performance.md says what the files of benchmarks/results/ hold, and a goal that was missed says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.growth import Growth, added_costs
from benchmarks.measured import RESULTS, Result, Row, alternate, read_result, spread, write_result
from benchmarks.page import page
from benchmarks.sizing import MODELS, Job, measured_bytes, section

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
    assert "|  | peak | seconds | goal |\n| --- | ---: | ---: | ---: |\n| small | 1,838 | 10.3 |  |\n" in text
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


def test_growth_is_the_cost_of_what_is_more_and_the_last_line_is_judged(tmp_path: Path) -> None:
    growth = Growth("g", "Q", "A.", "pair", (10, 100, 1000), (1, 2, 3), dict, {"own_bytes": "MiB"}, ())
    # A start of 5 s; 0.1 s a pair, then 0.109 s: 9 % more. Memory: 9 % more.
    found = {
        10: {"seconds": 6.0, "own_bytes": 2**20},
        100: {"seconds": 15.0, "own_bytes": 2**20},
        1000: {"seconds": 113.1, "own_bytes": 1.09 * 2**20},
    }
    assert added_costs(found) == pytest.approx([0.1e6, 0.109e6])
    rows = growth.result(found).rows
    assert [row.reached for row in rows] == [None, None, True]
    assert rows[2].ratio == pytest.approx(1.09)
    assert rows[2].values["MiB"] == pytest.approx(1.09)
    slower = found | {1000: found[1000] | {"seconds": 15 + 900 * 0.12}}
    larger = found | {1000: found[1000] | {"own_bytes": 1.2 * 2**20}}
    assert [growth.result(other).rows[2].reached for other in (slower, larger)] == [False, False]
    assert replace(growth, flat=False).result(larger).rows[2].reached is True  # ten times the items may take 11 times


def test_sizing_by_arithmetic() -> None:
    """BERT-base: 85e6 weights, 86 tokens a pair: 14.62 GFLOP; 0.3 of 312 TFLOP/s are 6,402 pairs/s."""
    bert = MODELS[1]
    assert bert.pairs_per_second == pytest.approx(0.3 * 312e12 / (2 * 85e6 * 86), rel=1e-9)
    # 3e15 operations by 2 x 85e6 weights x 160 tokens are 110,294 pairs: above the 32,768 that a shard may hold.
    # 2.5 million pairs a partition are 76.3 shards of 32,768: 77 each.
    assert (bert.shard, bert.shards) == (32_768, 77 * 16)
    job = Job(bert, 8)
    hours = (90 + 40e6 / 8 / bert.pairs_per_second + 32_768 / bert.pairs_per_second / 2) / 3600
    assert (job.hours, job.dollars) == (pytest.approx(hours), pytest.approx(hours * 8 * 2.0))
    assert f"| BERT-base, 8 | {hours:.2f} | {hours * 16:,.0f} |" in section()


def test_sizing_takes_what_was_measured(tmp_path: Path) -> None:
    measured = {
        "100000": {"driver_bytes": 400e6, "columns": {"store bytes a pair": 40.0}},
        "1000000": {"driver_bytes": 436e6, "columns": {"store bytes a pair": 32.0}},
    }
    write(tmp_path, "scoring_growth", FACTS | {"measured": measured})
    assert measured_bytes(tmp_path) == {"store": 32.0, "driver": pytest.approx(40.0)}
    text = section(tmp_path)
    assert "32 bytes (measured above) a stored pair" in text
    assert "1.6 GB more (40 bytes a pair, measured above)" in text  # 40 million pairs
