"""Pairs as fixed-width byte strings, so that numpy sorts, joins and partitions millions of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from stillhouse.errors import StoreError

HASH_LENGTH = 32
"""Hex digits of `artifacts.text_hash`."""
KEY = np.dtype(f"S{2 * HASH_LENGTH}")

Hashes: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray | np.ndarray


def pair_keys(query_hashes: Hashes, doc_hashes: Hashes) -> np.ndarray:
    """`query_hash + doc_hash` per pair, [P] of 64 bytes; sorting them sorts by (query_hash, doc_hash)."""
    queries, docs = hash_bytes(query_hashes), hash_bytes(doc_hashes)
    if len(queries) != len(docs):
        raise StoreError(
            f"pairs: {len(queries)} query hashes and {len(docs)} document hashes; give one of each per pair"
        )
    both = np.empty((len(queries), 2), dtype=f"S{HASH_LENGTH}")
    both[:, 0], both[:, 1] = queries, docs
    return both.reshape(-1).view(KEY)


def hash_bytes(hashes: Hashes) -> np.ndarray:
    """Text hashes as [P] of 32 bytes."""
    if isinstance(hashes, np.ndarray):
        if hashes.dtype == f"S{HASH_LENGTH}":
            return hashes
        hashes = hashes.tolist()
    column = hashes if isinstance(hashes, pa.Array | pa.ChunkedArray) else pa.array(hashes, pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count or not _all_of_length(column):
        raise StoreError(f"pairs: a text hash is not {HASH_LENGTH} hex digits; make it with artifacts.text_hash")
    offset = _offsets(column)[0] if len(column) else 0
    data = column.buffers()[2] or b""
    return np.frombuffer(data, dtype=f"S{HASH_LENGTH}", count=len(column), offset=int(offset))


def _all_of_length(column: Any) -> bool:
    return not len(column) or bool((np.diff(_offsets(column)) == HASH_LENGTH).all())


def _offsets(column: Any) -> np.ndarray:
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    return np.frombuffer(column.buffers()[1], dtype=width)[column.offset : column.offset + len(column) + 1]


def partition_of(keys: np.ndarray, partitions: int) -> np.ndarray:
    """Partition of each key, int64 [P], by the range its query hash falls in.

    Ranges instead of remainders keep the partitions in the order of the keys, so that walking them is walking
    the sorted store, whatever their number.
    """
    digits = keys.view(np.uint8).reshape(len(keys), KEY.itemsize)[:, :8].astype(np.int64)
    nibbles = np.where(digits >= ord("a"), digits - ord("a") + 10, digits - ord("0"))
    head = nibbles @ (16 ** np.arange(7, -1, -1, dtype=np.int64))
    return np.asarray(head * partitions >> 32)


def positions(keys: np.ndarray, sorted_keys: np.ndarray) -> np.ndarray:
    """Where each key stands in `sorted_keys`, int64 [P]; -1 where it does not."""
    if not len(sorted_keys):
        return np.full(len(keys), -1, dtype=np.int64)
    # Looked up in order, so that the searches share the cache: four times faster on a million keys.
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = np.minimum(np.searchsorted(sorted_keys, ordered), len(sorted_keys) - 1)
    result = np.empty(len(keys), dtype=np.int64)
    result[order] = np.where(sorted_keys[found] == ordered, found, -1)
    return result
