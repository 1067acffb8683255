"""`stillhouse rerank`: a saved ranker over a recipe's candidates, from files to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.evaluation.trec import read_run
from stillhouse.rankers import RANKERS, load_ranker


def test_the_run_holds_the_scores_of_the_ranker(
    collection_folder: Path, backbone: Path, tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    caps = {"query_max_length": 16, "doc_max_length": 32}
    RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, **caps).save_pretrained(tmp_path / "ranker")
    assert call("new", "mine.yaml", "--collection", collection_folder).status == 0
    done = call("rerank", "mine.yaml", "ranker", "--split", "dev", "--depth", "5", "--output", "out.trec")
    assert done.status == 0, done.err
    run = read_run(tmp_path / "out.trec")

    texts = {row["doc_id"]: row["text"] for row in rows(collection_folder / "corpus.jsonl")}
    queries = {row["query_id"]: row["text"] for row in rows(collection_folder / "queries.dev.jsonl")}
    assert run.keys() == queries.keys()
    ranker = load_ranker(tmp_path / "ranker")
    for query_id, scores in run.items():
        assert 1 <= len(scores) <= 5
        expected = ranker.score([queries[query_id]], [[texts[doc_id] for doc_id in scores]])[0]
        assert list(scores.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
