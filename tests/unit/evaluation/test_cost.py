"""The cost table: storage by formula, every architecture at toy size, the command with measures and its picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from stillhouse.cli import main
from stillhouse.evaluation.cost import Cost, Question, measure_here
from stillhouse.evaluation.cost_table import CostTable, latency_points, markdown
from stillhouse.rankers import RANKERS
from tests.contracts.tiny_models import write_model

KINDS = {"causal_lm": "qwen2", "recurrent": "mamba"}
WIDTH, LENGTH = 32, 24
# Float32 vectors of a document of LENGTH tokens: one; one a token with two specials, or one, or none.
STORAGE = {
    "dual_encoder": 4 * WIDTH,
    "colbert": 4 * WIDTH * (LENGTH + 2),
    "prettr": 4 * WIDTH * (LENGTH + 1),
    "tk": 4 * WIDTH * LENGTH,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("rankers")
    found = {}
    for key in RANKERS:
        kind = KINDS.get(key, "bert")
        backbone = place / kind if (place / kind).exists() else write_model(place / kind, kind)
        options = {"num_separate_layers": 1} if key == "prettr" else {}
        ranker = RANKERS[key].from_backbone(str(backbone), query_max_length=8, doc_max_length=LENGTH, **options)
        ranker.save_pretrained(place / key)
        found[key] = place / key
    return found


@pytest.mark.parametrize("key", RANKERS)
def test_every_architecture(key: str, folders: dict[str, Path]) -> None:
    found = measure_here(Question(str(folders[key]), documents=6, repeats=2, warmup=1))
    assert (found.ranker, found.query_tokens, found.doc_tokens) == (key, 8, LENGTH)
    assert found.storage_bytes == STORAGE.get(key)
    assert found.searchable == (key in ("dual_encoder", "colbert"))
    assert (found.latency.documents, found.latency.threads, found.latency.device) == (6, 1, "cpu")
    assert 0 < found.latency.median_ms <= found.latency.p95_ms
    assert (found.latency.cached_median_ms is None) == (key not in STORAGE)
    assert psutil.Process().memory_info().rss <= found.peak_memory_bytes * 1.02
    assert 0 < found.loaded_memory_bytes <= found.peak_memory_bytes


def test_the_command_writes_table_and_picture(
    folders: dict[str, Path],
    collection_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    arguments = ["cost", str(folders["dual_encoder"]), "--collection", str(collection_folder), "--depth", "10"]
    arguments += ["--measures", "nDCG@10 RR@10", "--repeats", "2", "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*arguments, "--documents", "61"]) == 1
    assert "has 60 documents, 61 are to be scored" in capsys.readouterr().err
    held = np.ones(2**27)  # a gigabyte here, none of it in the process that is measured
    assert main([*arguments, "--documents", "40"]) == 0
    (row,) = json.loads((tmp_path / "out" / "cost.json").read_text())["rows"]
    assert row["latency"]["documents"] == 40
    assert 2**26 < row["peak_memory_bytes"] < psutil.Process().memory_info().rss
    assert held.nbytes < psutil.Process().memory_info().rss
    assert set(row["measures"]) == {"nDCG@10", "RR@10"}
    text = (tmp_path / "out" / "cost.md").read_text()
    assert f"| dual_encoder | dual_encoder | {row['parameters']:,} | {row['measures']['nDCG@10']:.4f} |" in text
    assert "| first stage |" in text
    assert (tmp_path / "out" / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_rows_without_measures_have_no_picture(folders: dict[str, Path]) -> None:
    found: Cost = measure_here(Question(str(folders["tk"]), documents=3, repeats=1, warmup=0))
    table = CostTable({"tk": found})
    assert latency_points(table) == []
    assert "bytes a document" in markdown(table)
    with_quality = CostTable({"tk": found}, {"first stage": {"nDCG@10": 0.5}, "tk": {"nDCG@10": 0.75}})
    ((name, milliseconds, value),) = latency_points(with_quality)
    assert (name, milliseconds, value) == ("tk (documents kept)", found.latency.cached_median_ms, 0.75)
