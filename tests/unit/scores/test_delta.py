"""What a second job costs the teacher: the pairs that are new, counted where they enter the ranker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillhouse.collection import Collection, materialise
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.cross_encoder import CrossEncoder
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.scores.identity import identity_of, resolve_dtype
from stillhouse.scores.manage import show
from stillhouse.scores.pipeline import score_pairs
from stillhouse.scores.store import ScoreStore

WORDS = ("river", "stone", "window", "letter", "engine", "winter", "market", "silver", "forest", "bridge")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """The pairs that any ranker scored, by their token ids; the real forward passes follow."""
    pairs: list[tuple[bytes, bytes]] = []
    original = CrossEncoder.score_tokens

    def counted(self: Any, queries: Sequence[Any], docs: Sequence[Sequence[Any]], **options: Any) -> Any:
        for query, row in zip(queries, docs, strict=True):
            pairs.extend((query.tobytes(), doc.tobytes()) for doc in row)
        return original(self, queries, docs, **options)

    monkeypatch.setattr(CrossEncoder, "score_tokens", counted)
    return pairs


def teacher(folder: Path, backbone: Path, seed: int) -> Path:
    options = {"query_max_length": 8, "doc_max_length": 16}
    RANKERS["cross_encoder"].from_backbone(str(backbone), seed=seed, **options).save_pretrained(folder)
    return folder


def score(root: Path, path: Path, collection: Collection, queries: range, docs: range, split: str = "train") -> int:
    rows = [(query, doc) for query in queries for doc in docs]
    table = pa.table({"query_row": [q for q, _ in rows], "doc_row": [d for _, d in rows]})
    store = ScoreStore(root, identity_of(load_ranker(path)), 3)
    return score_pairs(store, path, collection, split, table, num_actors=0, shard_size=32).scored


def test_depth_queries_collections_and_teachers_cost_what_is_new(
    tmp_path: Path, backbone: Path, toy: Collection, seen: list[tuple[bytes, bytes]]
) -> None:
    first, root = teacher(tmp_path / "first", backbone, 1), tmp_path / "scores"

    def passes(*arguments: Any) -> int:
        before = len(seen)
        scored = score(root, *arguments)
        assert len(seen) - before == scored
        return scored

    assert passes(first, toy, range(8), range(10)) == 80
    assert passes(first, toy, range(8), range(10)) == 0
    # More depth: 15 documents instead of 10. More queries: 12 instead of 8.
    assert passes(first, toy, range(8), range(15)) == 8 * 5
    assert passes(first, toy, range(12), range(15)) == 4 * 15
    # Another collection: the first ten queries, documents 5 to 14 under other ids, and ten of its own.
    other = shared(tmp_path / "other", toy)
    assert passes(first, other, range(10), range(20)) == 10 * 10
    assert len(set(seen)) == len(seen)
    # One more teacher has a store of its own, and nothing of the first is scored again.
    second = teacher(tmp_path / "second", backbone, 2)
    assert passes(second, toy, range(12), range(15)) == 12 * 15
    assert passes(first, toy, range(12), range(15)) == 0
    stores = [ScoreStore(root, identity_of(load_ranker(path)), 3) for path in (first, second)]
    assert [len(store) for store in stores] == [12 * 15 + 10 * 10, 12 * 15]


def shared(folder: Path, toy: Collection) -> Collection:
    folder.mkdir()
    docs = [toy.docs.text(row) for row in range(5, 15)] + [f"garden {word}" for word in WORDS]
    lines = [{"doc_id": f"other{row}", "title": "", "text": text} for row, text in enumerate(docs)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    queries = toy.splits["train"].queries
    for number, split in enumerate(("train", "dev", "test")):
        texts = [queries.text(row) if split == "train" else f"{split} {row}" for row in range(10)]
        rows = [{"query_id": f"x{number}{row}", "text": text} for row, text in enumerate(texts)]
        (folder / f"queries.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"qrels.{split}.tsv").write_text("".join(f"{row['query_id']}\t0\tother0\t1\n" for row in rows))
    refs = {split: str(folder) for split in ("train", "dev", "test")}
    return materialise(CollectionSpec(**refs), 0, folder / "workspace")


def test_show_tells_who_scored_what_with_what(tmp_path: Path, backbone: Path, toy: Collection) -> None:
    path = teacher(tmp_path / "first", backbone, 1)
    score(tmp_path, path, toy, range(3), range(4))
    ranker = load_ranker(path)
    store = ScoreStore(tmp_path, identity_of(ranker))
    shown = show(store)
    identity = shown["identity"]
    assert (identity["ranker"], identity["dtype"], identity["backend"]) == (
        "cross_encoder",
        resolve_dtype("auto", "cpu"),
        "torch-cpu",
    )
    assert (identity["weights"], identity["tokenizer"]) == (ranker.weight_digest(), ranker.tokenizer_digest)
    assert (identity["options"]["query_max_length"], identity["options"]["doc_max_length"]) == (8, 16)
    assert (shown["pairs"], shown["scored"], shown["digest"]) == (12, 12, store.digest())
    (job,) = shown["jobs"]
    assert job.keys() >= {"host", "pid", "user", "started", "seconds", "actor_seconds", "tokens", "truncated"}
    assert job["versions"].keys() >= {"stillhouse", "torch", "transformers", "tokenizers", "ray", "pyarrow"}
    assert (job["state"], job["ranker_path"], job["collection"]) == ("finished", str(path), toy.digest)
    assert shown["actor_hours"] == pytest.approx(job["actor_seconds"] / 3600)
