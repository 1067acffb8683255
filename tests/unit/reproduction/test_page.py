"""The page is what the record says, and the committed page is that of the committed record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhouse.reproduction import page
from stillhouse.reproduction.harness import add_to
from stillhouse.reproduction.papers import EXPERIMENTS

DOCS = Path(__file__).parents[3] / "docs"


def value(mean: float, sd: float | None = 0.01) -> dict:
    return {"seeds": [mean], "mean": mean, "sd": sd}


def found(name: str) -> dict:
    """A record of one experiment with made-up figures; row i has 0.5 + i / 100."""
    experiment = EXPERIMENTS[name]
    rows = {row: {"nDCG@10": value(0.5 + i / 100), "seconds": [20.0, 40.0]} for i, row in enumerate(experiment.rows)}
    rows["first stage"] = {"nDCG@10": value(0.4, 0.0), "seconds": [1.0]}
    comparison = {
        "difference": 0.02,
        "ci_low": -0.01,
        "ci_high": 0.05,
        "p_holm": 0.3,
        "wins": 5,
        "ties": 1,
        "losses": 4,
    }
    comparisons = [
        {"a": claim.a, "b": claim.b, "says": claim.says, "verdict": "not resolved (p = 0.3)", **comparison}
        for claim in experiment.claims
    ]
    facts = {"seeds": [0, 1], "collection": "toy/test", "measure": "nDCG@10", "queries": 1234, "depth": 20}
    return {**facts, "rows": rows, "comparisons": comparisons}


def test_a_table_sets_both_beside_each_other(tmp_path):
    record = add_to(tmp_path / "reproductions.json", {"menon-losses-mini": found("menon-losses-mini")})
    text = page.page(record)
    plus_minus = "\N{PLUS-MINUS SIGN}"
    assert f"| labels, one-hot | 0.5000 {plus_minus} 0.0100 | .310 | .360 | 30 |" in text
    assert "| first stage (BM25) | 0.4000 |  |  | 1 |" in text
    # 6 rows of 20 + 40 seconds; the first stage is not one of them.
    assert "1,234 test queries of `toy/test`" in text
    assert "2 seeds (0, 1); 6.0 minutes." in text
    line = "| softmax cross-entropy - labels, one-hot | better | +0.0200 | -0.0100 to +0.0500 | 0.3 | 5/1/4 |"
    assert f"{line} not resolved (p = 0.3) |" in text
    assert (
        "| [Losses for a dual encoder](#losses-for-a-dual-encoder) | Menon et al. 2022, Table 1 | 0 | 7 | 0 |" in text
    )


def test_another_call_keeps_what_was_there(tmp_path):
    file = tmp_path / "reproductions.json"
    add_to(file, {"xu-same-capacity-mini": found("xu-same-capacity-mini")})
    record = add_to(file, {"menon-sizes-mini": found("menon-sizes-mini")})
    assert list(record["experiments"]) == ["menon-sizes-mini", "xu-same-capacity-mini"]  # in the order of the page
    page.write(record, tmp_path)
    assert (tmp_path / "images" / "menon-sizes-mini.png").stat().st_size > 5_000
    assert (tmp_path / "reproductions.md").read_text() == page.page(json.loads(file.read_text()))


@pytest.mark.skipif(not (DOCS / "reproductions.json").exists(), reason="`make reproduce` has not been run")
def test_the_committed_page_is_that_of_the_committed_record():
    record = json.loads((DOCS / "reproductions.json").read_text())
    assert (DOCS / "reproductions.md").read_text(encoding="utf-8") == page.page(record)
    for name in record["experiments"]:
        assert (DOCS / "images" / f"{name}.png").exists() == (EXPERIMENTS[name].picture is not None)
