"""Which pairs are missing, cut into shards: a pure function of the pairs asked for and of what is stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from stillhouse.errors import StoreError
from stillhouse.scores.identity import Device
from stillhouse.scores.keys import hash_bytes, pair_keys, partition_of
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
    tokens = (ranker.spec.query_max_length + ranker.spec.doc_max_length) / 2
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

    @property
    def missing(self) -> int:
        return sum(len(shard.doc_rows) for shard in self.shards)


def make_plan(store: ScoreStore, queries: Texts, docs: Texts, pairs: pa.Table, size: int) -> Plan:
    """Cut the pairs into shards of at most `size`, then drop from each what the store has.

    The cut looks at the pairs alone and the drop at each shard alone, so that a job that was killed plans the same
    unfinished shards again, with the same batches in them. One partition is looked at at a time.
    """
    query_rows, doc_rows = _rows(pairs, "query_row", len(queries)), _rows(pairs, "doc_row", len(docs))
    keys, first = np.unique(pair_keys(_hashes(queries, query_rows), _hashes(docs, doc_rows)), return_index=True)
    query_rows, doc_rows = query_rows[first], doc_rows[first]
    borders = np.searchsorted(partition_of(keys, store.partitions), np.arange(store.partitions + 1))
    shards = []
    for partition in range(store.partitions):
        wanted = np.arange(borders[partition], borders[partition + 1])
        if not len(wanted):
            continue
        missing = np.isnan(store.lookup_keys(keys[wanted]))
        for piece in np.array_split(np.arange(len(wanted)), -(-len(wanted) // size)):
            chosen = wanted[piece[missing[piece]]]
            if len(chosen):
                generation = hashlib.sha256(keys[chosen].tobytes()).hexdigest()[:16]
                shards.append(Shard(partition, generation, query_rows[chosen], doc_rows[chosen]))
    return Plan(len(keys), shards)


def _rows(pairs: pa.Table, column: str, count: int) -> np.ndarray:
    rows: np.ndarray = pairs[column].to_numpy().astype(np.int32)
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= count):
        raise StoreError(f"pairs: {column} goes from {rows.min()} to {rows.max()}, but there are {count} texts")
    return rows


def _hashes(texts: Texts, rows: np.ndarray) -> np.ndarray:
    different, inverse = np.unique(rows, return_inverse=True)
    hashes = texts.hashes
    return np.asarray(hash_bytes([hashes[row] for row in different])[inverse])
