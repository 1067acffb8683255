"""Adding rows that no actor scored: from another store, or from a file."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from stillhouse.scores.keys import pair_keys, partition_of
from stillhouse.scores.store import ScoreStore


def generation_of(keys: np.ndarray) -> str:
    """The name of a file with these pairs, in their order."""
    return hashlib.sha256(keys.tobytes()).hexdigest()[:16]


def add_missing(store: ScoreStore, table: pa.Table) -> int:
    """Write the rows of SCORE_SCHEMA whose pairs the store lacks; how many. No pair stands twice in `table`."""
    keys = pair_keys(table["query_hash"], table["doc_hash"])
    missing = np.flatnonzero(np.isnan(store.lookup_keys(keys)))
    order = missing[np.argsort(keys[missing], kind="stable")]
    partition = partition_of(keys[order], store.partitions)
    for number in np.unique(partition):
        chosen = order[partition == number]
        store.write(int(number), generation_of(keys[chosen]), table.take(pa.array(chosen)))
    return len(order)
