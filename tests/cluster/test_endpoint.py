"""An endpoint asked by an actor: the same store as in one process, and what a failure leaves is kept."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.presets import expand_presets
from stillhouse.scores.ask import ask_pairs
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.store import ScoreStore
from tests.contracts.completion_server import serving
from tests.contracts.tiny_llms import write_llm

SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32())])
PAIRS = pa.table([[0] * 6 + [1] * 6, [*range(6)] * 2], schema=SCHEMA)


def test_an_actor_asks_and_goes_on_after_a_refusal(cluster: None, toy: Collection, tmp_path: Path) -> None:
    with serving(write_llm(tmp_path / "qwen3", "qwen3")) as server:
        said = {
            "endpoint": server.url,
            "model": "tiny",
            "template": "qwen3-reranker-0.6b",
            "top_logprobs": 1000,
            "concurrency": 2,
        }
        tree = expand_presets({"teachers": {"t": said}}, "test")
        spec = EndpointTeacher.model_validate(tree["teachers"]["t"])
        plain, store = (ScoreStore(tmp_path / name, spec.identity(), 2) for name in ("plain", "ray"))
        ask_pairs(plain, spec, toy, "train", PAIRS, in_process=True, shard_size=3)
        asked = len(server.requests)
        assert asked == 12
        server.faults.append("400")
        with pytest.raises(StoreError, match=r"1 of its shards not scored, .* the server refuses it with 400"):
            ask_pairs(store, spec, toy, "train", PAIRS, shard_size=3)
        assert len(store) == 11  # all that was answered
        assert len(server.requests) == asked + 12
        report = ask_pairs(store, spec, toy, "train", PAIRS, shard_size=3)
        assert (report.scored, report.reused) == (1, 11)
        assert store.digest() == plain.digest()
        assert [job["state"] for job in read_jobs(store.path)] == ["failed", "finished"]
