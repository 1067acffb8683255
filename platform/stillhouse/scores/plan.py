"""Which pairs are missing, cut into shards: a pure function of the pairs asked for and of what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from stillhouse.errors import StoreError
from stillhouse.scores.generation import generation_of
from stillhouse.scores.identity import Device
from stillhouse.scores.keys import pair_keys, partition_of
from stillhouse.scores.store import ScoreStore

if TYPE_CHECKING:
    from stillhouse.collection import Texts
    from stillhouse.rankers import Ranker


_WORK: dict[Device, float] = {"cpu": 3e12, "cuda": 3e15}
"""Floating-point operations of about half a minute on one actor."""
LARGEST: dict[Device, int] = {"cpu": 2048, "cuda": 32768}


def pairs_per_shard(ranker: Ranker, device: Device) -> int:
    """Pairs that keep one actor busy for about half a minute: what a kill can cost, and what hides Ray's own time.

    A function of teacher and device alone, since the batches, and so the last bits of the scores, follow it.
    """
    weights = sum(parameter.numel() for block in ranker.blocks() for parameter in block.parameters())
    return shard_size(weights, ranker.spec.query_max_length + ranker.spec.doc_max_length, device)


def shard_size(weights: int, caps: int, device: Device) -> int:
    """The same from the weights of the blocks and the sum of the caps."""
    tokens = caps / 2
    return min(LARGEST[device], max(16, int(_WORK[device] / (2 * weights * tokens))))


@dataclass(frozen=True)
class Shard:
    """Pairs of one partition that one actor scores in one go, in the order of their keys."""

    partition: int
    generation: str
    """Names the content: a digest of the pairs' keys."""
    query_rows: np.ndarray
    doc_rows: np.ndarray


@dataclass(frozen=True)
class Plan:
    total: int
    """Different pairs asked for."""
    shards: list[Shard]
    missing: int = field(init=False)
    """Pairs of the shards."""

    def __post_init__(self) -> None:
        # Once: a job asks after every shard, and a large one has ten thousands of them.
        object.__setattr__(self, "missing", sum(len(shard.doc_rows) for shard in self.shards))

    def first(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Query rows and document rows of the first pairs to score."""
        # No shard is empty: as many shards as pairs are enough, and all of them may be too many to join.
        some = self.shards[:count]
        query_rows, doc_rows = ([getattr(shard, name) for shard in some] for name in ("query_rows", "doc_rows"))
        return np.concatenate(query_rows)[:count], np.concatenate(doc_rows)[:count]


def make_plan(store: ScoreStore, queries: Texts, docs: Texts, pairs: pa.Table, size: int) -> Plan:
    """Cut the pairs into shards of at most `size`, then drop from each what the store has.

    The cut looks at the pairs alone and the drop at each shard alone, so that a job that was killed plans the same
    unfinished shards again, with the same batches in them. Keys are made for one partition at a time: 64 bytes a pair.
    What stays of a pair is its two row numbers.
    """
    query_rows, doc_rows = _rows(pairs, "query_row", len(queries)), _rows(pairs, "doc_row", len(docs))
    total, shards = 0, []
    for partition, chosen in _by_partition(queries, query_rows, store.partitions):
        chosen = chosen[_in_order(queries, docs, query_rows[chosen], doc_rows[chosen])]
        keys = pair_keys(queries.hashes.digits[query_rows[chosen]], docs.hashes.digits[doc_rows[chosen]])
        total += len(keys)
        missing = np.isnan(store.lookup_in(partition, keys))
        for piece in np.array_split(np.arange(len(keys)), -(-len(keys) // size)):
            left = piece[missing[piece]]
            if len(left):
                rows = chosen[left]
                shards.append(Shard(partition, generation_of(keys[left]), query_rows[rows], doc_rows[rows]))
    return Plan(total, shards)


def _in_order(queries: Texts, docs: Texts, query_rows: np.ndarray, doc_rows: np.ndarray) -> np.ndarray:
    """Where each different pair stands first, in the order of the keys.

    By the ranks of the hashes, 8 bytes a pair: sorting the keys themselves takes five times their 64 bytes.
    """
    ranks = [
        np.unique(texts.hashes.digits[different], return_inverse=True)[1][inverse]
        for texts, (different, inverse) in (
            (queries, np.unique(query_rows, return_inverse=True)),
            (docs, np.unique(doc_rows, return_inverse=True)),
        )
    ]
    return np.asarray(np.unique(ranks[0] << 32 | ranks[1], return_index=True)[1])


def _by_partition(queries: Texts, query_rows: np.ndarray, partitions: int) -> Iterator[tuple[int, np.ndarray]]:
    """Positions of the pairs of each partition that has any."""
    of_text = np.zeros(len(queries), np.int16)
    different = np.unique(query_rows)
    hashes = queries.hashes.digits[different]
    of_text[different] = partition_of(pair_keys(hashes, hashes), partitions)
    partition = of_text[query_rows]
    for number in np.unique(of_text[different]).tolist():
        yield number, np.flatnonzero(partition == number)


def _rows(pairs: pa.Table, column: str, count: int) -> np.ndarray:
    rows: np.ndarray = pairs[column].to_numpy().astype(np.int32, copy=False)
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= count):
        raise StoreError(f"pairs: {column} goes from {rows.min()} to {rows.max()}, but there are {count} texts")
    return rows
