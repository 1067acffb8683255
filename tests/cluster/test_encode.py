"""Encoding by actors under Ray Data is that of one process, and goes on where it stood."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import ray
from rich.console import Console

from stillhouse.collection import Collection, token_ids
from stillhouse.evaluation.encode import encode, encoding_of
from stillhouse.evaluation.encode_ray import encode_distributed
from stillhouse.evaluation.retrieve import retrieve
from stillhouse.pipeline.retrieval import rerank_file, retrieve_file
from stillhouse.rankers import RANKERS, load_ranker


def test_actors_write_the_shards_of_one_process(cluster: None, backbone: Path, toy: Collection, tmp_path: Path) -> None:
    fresh = RANKERS["dual_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16)
    fresh.save_pretrained(tmp_path / "ranker")
    ranker = load_ranker(tmp_path / "ranker")
    alone = encoding_of(ranker, toy.docs, tmp_path / "alone", per_shard=15)
    encode(ranker, toy.docs, tmp_path / "alone", alone)
    spread = encoding_of(ranker, toy.docs, tmp_path / "spread", per_shard=15)
    assert spread.key == alone.key
    doc_ids = token_ids(toy.docs, ranker, tmp_path / "spread")
    seen: list[tuple[int, int]] = []

    def run(workers: int) -> int:
        return encode_distributed(
            tmp_path / "ranker",
            toy.docs,
            doc_ids,
            spread,
            workers=workers,
            progress=lambda *state: seen.append(state),
        )

    assert run(2) == 4
    assert seen[-1] == (60, 60)
    for shard in alone.shards:
        np.testing.assert_allclose(spread.vectors(shard), alone.vectors(shard), atol=1e-6)
    before = {shard: spread.path(shard).stat().st_mtime_ns for shard in (0, 1, 3)}
    spread.path(2).unlink()
    assert run(2) == 1
    assert {shard: spread.path(shard).stat().st_mtime_ns for shard in (0, 1, 3)} == before
    assert run(2) == 0
    runs = [retrieve(ranker, toy, "dev", 10, tmp_path, encoded=each) for each in (alone, spread)]
    for query_id, scores in runs[0].items():
        assert runs[1][query_id] == pytest.approx(scores, abs=1e-5)


def test_the_commands_with_workers_give_the_runs_of_one_process(
    cluster: None, backbone: Path, collection_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RANKERS["dual_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16).save_pretrained(
        tmp_path / "ranker"
    )
    console = Console(file=io.StringIO())
    retrieved, reranked = [], []
    for workers in (0, 2):
        # A home of its own: what one has encoded the other does not find.
        monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / f"home{workers}"))
        model, ref = str(tmp_path / "ranker"), str(collection_folder)
        run = tmp_path / f"run{workers}.trec.gz"
        retrieved.append(retrieve_file(model, ref, "test", 15, run, workers=workers, console=console))
        output = tmp_path / f"again{workers}.trec"
        reranked.append(rerank_file(run, model, ref, "test", 7, output, workers=workers, console=console))
    for alone, spread in (retrieved, reranked):
        assert alone.keys() == spread.keys()
        for query_id, scores in alone.items():
            assert spread[query_id] == pytest.approx(scores, abs=1e-5)
    assert {len(scores) for scores in reranked[1].values()} == {7}
    assert ray.is_initialized()
