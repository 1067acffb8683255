from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from stillhouse.errors import CollectionError
from stillhouse.evaluation.latency import Latency
from stillhouse.evaluation.report import SystemResult, build_report, write_report
from stillhouse.evaluation.table import console_tables

QUERIES = [f"q{row}" for row in range(8)]


def _system(name: str, values: list[float], latency: Latency | None = None, note: str = "") -> SystemResult:
    named = dict(zip(QUERIES, values, strict=True))
    return SystemResult(name, "test", {"nDCG@10": named, "R@30": dict.fromkeys(QUERIES, 0.75)}, latency, note)


def _systems() -> list[SystemResult]:
    return [
        _system("bm25", [0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4, 0.1], note="k1 0.9, b 0.4"),
        _system("contrastive", [0.3, 0.4, 0.5, 0.3, 0.3, 0.3, 0.5, 0.2]),
        _system("distilled", [0.4, 0.6, 0.6, 0.4, 0.3, 0.4, 0.7, 0.2], Latency(5.25, 7.0, 1.5, 2.0, 30, 2, "cpu")),
        _system("teacher", [0.6, 0.6, 0.7, 0.6, 0.5, 0.4, 0.9, 0.5]),
    ]


PAIRS = [("distilled", "bm25"), ("distilled", "contrastive"), ("teacher", "distilled")]


def test_results_json(tmp_path: Path) -> None:
    report = build_report(
        _systems(), PAIRS, gap=("distilled", "contrastive", "teacher"), facts={"depth": 30, "odd": float("inf")}
    )
    write_report(report, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"rows", "gap_closed", "alpha", "depth", "odd"}
    assert results["odd"] is None
    rows = {row["ranker"]: row for row in results["rows"]}
    assert list(rows) == ["bm25", "contrastive", "distilled", "teacher"]
    for row in rows.values():
        assert set(row) == {
            "ranker", "split", "note", "measures", "queries", "latency_ms", "latency_cached_ms", "latency", "tests",
        }  # fmt: skip
        assert (row["split"], row["queries"], row["measures"]["R@30"]) == ("test", 8, 0.75)
    assert rows["bm25"]["measures"]["nDCG@10"] == pytest.approx(2.0 / 8)
    assert (rows["bm25"]["latency_ms"], rows["bm25"]["tests"]) == (None, [])
    assert (rows["distilled"]["latency_ms"], rows["distilled"]["latency_cached_ms"]) == (5.25, 1.5)
    assert rows["distilled"]["latency"]["p95_ms"] == 7.0
    tests = {test["against"]: test for test in rows["distilled"]["tests"]}
    assert set(tests) == {"bm25", "contrastive"}
    assert set(tests["bm25"]) == {
        "against", "measure", "mean_a", "mean_b", "difference", "t", "p", "p_holm", "ci_low", "ci_high", "fisher_p",
        "effect_size", "wins", "ties", "losses", "queries",
    }  # fmt: skip
    # Means 3.6/8 and 2.8/8 and 4.8/8: the gain 0.1 of the lead 0.25.
    assert tests["contrastive"]["difference"] == pytest.approx(0.1)
    assert results["gap_closed"]["ratio"] == pytest.approx(0.4)
    assert results["gap_closed"]["teacher"] == "teacher"


def test_holm_counts_every_measure_tested() -> None:
    systems = [
        SystemResult(name, "test", {"nDCG@10": values, "RR@10": values})
        for name, values in [("a", dict(zip("xyz", (0.5, 0.7, 0.9), strict=True))), ("b", dict.fromkeys("xyz", 0.4))]
    ]
    report = build_report(systems, [("a", "b")], tested=["nDCG@10", "RR@10"])
    first, second = report.comparisons
    assert first.p == second.p
    assert first.p_holm == pytest.approx(2 * first.p)


def test_markdown_and_console_show_the_same_cells(tmp_path: Path) -> None:
    report = build_report(_systems(), PAIRS, gap=("distilled", "contrastive", "teacher"))
    write_report(report, tmp_path)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[0] == "| ranker | nDCG@10 | R@30 | ms | ms cached |"
    assert lines[2] == "| bm25 | 0.2500 | 0.7500 | - | - |"
    assert "| distilled | 0.4500 | 0.7500 | 5.2 | 1.5 |" in lines
    assert any(line.startswith("| distilled - bm25 | nDCG@10 | +0.2000 | ") for line in lines)
    assert any(line.startswith("(distilled - contrastive) / (teacher - contrastive) = 0.40, 95 % ") for line in lines)
    assert any("8 queries" in line and "Holm's correction over 3 comparisons" in line for line in lines)
    assert "bm25: k1 0.9, b 0.4.  " in lines
    console = Console(file=io.StringIO(), width=160)
    for table in console_tables(report):
        console.print(table)
    shown = console.file.getvalue()
    assert "+0.2000" in shown
    assert "5.2" in shown


def test_a_report_that_mixes_things_is_refused() -> None:
    first, second, *_ = _systems()
    with pytest.raises(CollectionError, match="different names"):
        build_report([first, first], [])
    with pytest.raises(CollectionError, match="no system teacher for the gap; measured: bm25, contrastive"):
        build_report([first, second], [], gap=("contrastive", "bm25", "teacher"))
    with pytest.raises(CollectionError, match="contrastive has no values of RR@10"):
        build_report([SystemResult("x", "test", {"RR@10": {"q0": 1.0}}), second], [])
