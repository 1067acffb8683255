"""Several teachers as one: the mean of their raw scores (Hofstaetter et al., arXiv 2010.02666, section 3.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from stillhouse.artifacts import stable_hash
from stillhouse.errors import StoreError
from stillhouse.scores.keys import Hashes, pair_keys
from stillhouse.scores.store import Scale, ScoreStore


class Ensemble:
    """Reads like a store; a pair has a score where every member has one."""

    def __init__(self, stores: Sequence[ScoreStore]) -> None:
        if not stores:
            raise StoreError("ensemble: no store; name at least one")
        # In the order of their keys, since the order of a sum shows in its last bits.
        self.stores = sorted(stores, key=lambda store: store.key)
        keys = [store.key for store in self.stores]
        if len(set(keys)) < len(keys):
            raise StoreError(f"ensemble: a store stands twice in {', '.join(keys)}; name each once")
        scales = {store.key: store.scale for store in self.stores}
        if len(set(scales.values())) > 1:
            shown = ", ".join(f"{key} is {scale}" for key, scale in scales.items())
            raise StoreError(f"ensemble: its stores differ in scale: {shown}; a mean needs one scale")
        self.scale: Scale = self.stores[0].scale
        if self.scale == "order" and len(stores) > 1:
            raise StoreError("ensemble: scores of scale order have no mean; use one of its stores")
        self.key = stable_hash({"mean": keys}) if len(keys) > 1 else keys[0]

    def lookup(self, query_hashes: Hashes, doc_hashes: Hashes) -> np.ndarray:
        """The mean score of each pair, float32 [P]; NaN where a member has none."""
        keys = pair_keys(query_hashes, doc_hashes)
        total = np.zeros(len(keys), dtype=np.float64)
        for store in self.stores:
            total += store.lookup_keys(keys)
        return (total / len(self.stores)).astype(np.float32)

    def digest(self) -> str:
        """SHA-256 over the members' digests."""
        return hashlib.sha256("".join(store.digest() for store in self.stores).encode()).hexdigest()
