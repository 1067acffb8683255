"""The cut of the pairs into shards, against the same cut made of plain Python strings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from stillhouse.collection import Collection
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.plan import make_plan
from stillhouse.scores.store import ScoreStore


def test_shards_are_the_sorted_pairs_of_each_partition_cut_evenly(tmp_path: Path, toy: Collection) -> None:
    rng = np.random.default_rng(3)
    queries, docs = toy.splits["train"].queries, toy.docs
    # Some pairs stand twice.
    query_rows = rng.integers(0, len(queries), 300).astype(np.int32)
    doc_rows = rng.integers(0, len(docs), 300).astype(np.int32)
    pairs = pa.table({"query_row": query_rows, "doc_row": doc_rows})
    store = ScoreStore(tmp_path, {"ranker": "test"}, partitions=3)
    store.create()
    plan = make_plan(store, queries, docs, pairs, 7)

    texts = {(queries.hashes[q], docs.hashes[d]): (q, d) for q, d in zip(query_rows, doc_rows, strict=True)}
    assert plan.total == plan.missing == len(texts) < 300
    expected = []
    for partition in range(3):
        # The range of the hash's first 32 bits, cut in three.
        keys = [pair for pair in sorted(texts) if int(pair[0][:8], 16) * 3 >> 32 == partition]
        for piece in np.array_split(np.arange(len(keys)), -(-len(keys) // 7)):
            name = hashlib.sha256("".join(q + d for q, d in (keys[i] for i in piece)).encode()).hexdigest()[:16]
            expected.append((partition, name, [keys[i] for i in piece]))
    found = [
        (
            shard.partition,
            shard.generation,
            [(queries.hashes[q], docs.hashes[d]) for q, d in zip(shard.query_rows, shard.doc_rows, strict=True)],
        )
        for shard in plan.shards
    ]
    assert found == expected

    # What is stored leaves its shard, and no other pair moves.
    gone = expected[1][2][2]
    row = dict(zip(SCORE_SCHEMA.names, [*gone, "q", "d", 1.0, 1, False], strict=True))
    store.write(expected[1][0], "one", pa.Table.from_pylist([row], schema=SCORE_SCHEMA))
    again = make_plan(store, queries, docs, pairs, 7)
    assert (again.total, again.missing) == (plan.total, plan.total - 1)
    assert [len(shard.doc_rows) for shard in again.shards] == [
        len(pairs) - (place == 1) for place, (_, _, pairs) in enumerate(expected)
    ]
