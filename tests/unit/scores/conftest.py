"""Stores filled by hand: the ids of their rows are the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillhouse.artifacts import text_hash
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.keys import pair_keys, partition_of
from stillhouse.scores.store import ScoreStore

Pairs = Sequence[tuple[str, str, float]]
IDENTITY = {"ranker": "test", "weights": "0", "scale": "logit"}


def rows_of(pairs: Pairs) -> pa.Table:
    columns = {
        "query_hash": [text_hash(query) for query, _, _ in pairs],
        "doc_hash": [text_hash(doc) for _, doc, _ in pairs],
        "query_id": [query for query, _, _ in pairs],
        "doc_id": [doc for _, doc, _ in pairs],
        "score": [score for _, _, score in pairs],
        "num_tokens": [7] * len(pairs),
        "truncated": [False] * len(pairs),
    }
    return pa.table(columns, schema=SCORE_SCHEMA)


@pytest.fixture
def rows() -> Callable[[Pairs], pa.Table]:
    """Rows of SCORE_SCHEMA for (query, document, score)."""
    return rows_of


@pytest.fixture
def filled() -> Callable[..., ScoreStore]:
    """A store with the given pairs, one file per partition."""

    def fill(
        root: Path,
        pairs: Pairs,
        *,
        partitions: int = 4,
        generation: str = "a",
        identity: dict[str, Any] = IDENTITY,
    ) -> ScoreStore:
        store = ScoreStore(root, identity, partitions)
        store.create()
        table = rows_of(pairs)
        partition = partition_of(pair_keys(table["query_hash"], table["doc_hash"]), store.partitions)
        for number in sorted(set(partition.tolist())):
            store.write(number, generation, table.filter(pa.array(partition == number)))
        store.commit()
        return store

    return fill


@pytest.fixture
def look() -> Callable[[Any, Sequence[tuple[str, str]]], list[float]]:
    """The scores a store (or an ensemble) has for (query, document) texts."""

    def scores(store: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
        found: list[float] = store.lookup([text_hash(q) for q, _ in pairs], [text_hash(d) for _, d in pairs]).tolist()
        return found

    return scores
