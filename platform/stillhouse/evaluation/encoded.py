"""Document representations on disk: safetensors shards, memory-mapped, named by what they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stillhouse.errors import StoreError
from stillhouse.rankers.reps import Reps, Vectors

DOCS_PER_SHARD = 1024
"""What a kill costs at most, per worker: about a minute of a MiniLM on one CPU core."""
OPEN_SHARDS = 4096
"""Memory maps held at once; Linux gives a process 65,530."""


class EncodedDocs:
    """Representations of all documents of a collection by one ranker. Cheap to pickle: only names travel.

    A shard holds `values` [R, D] and, where a document has one vector per token, `offsets` [N + 1] into its rows
    (scored tokens only, nothing padded).
    """

    def __init__(self, folder: Path, key: str, docs: int, per_shard: int = DOCS_PER_SHARD) -> None:
        self.folder = folder
        self.key = key
        self.docs = docs
        self.per_shard = per_shard

    def __reduce__(self) -> tuple[type[EncodedDocs], tuple[Path, str, int, int]]:
        return EncodedDocs, (self.folder, self.key, self.docs, self.per_shard)

    def __len__(self) -> int:
        return self.docs

    @property
    def shards(self) -> range:
        return range(-(-self.docs // self.per_shard))

    def rows(self, shard: int) -> range:
        """Document rows of a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.docs))

    def path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.safetensors"

    def missing(self) -> list[int]:
        """Shards that are still to be encoded."""
        return [shard for shard in self.shards if not self.path(shard).exists()]

    @property
    def multi_vector(self) -> bool:
        """Whether a document has one vector per token."""
        return self._tensors(0)[1] is not None

    def vectors(self, shard: int) -> np.ndarray:
        """All vectors of a shard, float32 [R, D]: one per document, or one per scored token."""
        vectors_RD: np.ndarray = self._tensors(shard)[0].float().numpy()
        return vectors_RD

    @cached_property
    def first_vectors(self) -> np.ndarray:
        """int64 [docs + 1]: number of the first vector of each document, over all shards."""
        parts = [np.zeros(1, dtype=np.int64)]
        for shard in self.shards:
            values, offsets = self._tensors(shard)
            ends = np.arange(1, len(values) + 1) if offsets is None else offsets[1:].numpy()
            parts.append(parts[-1][-1] + ends)
        return np.concatenate(parts)

    def docs_of(self, vectors: np.ndarray) -> np.ndarray:
        """Document rows of numbers of vectors."""
        return np.searchsorted(self.first_vectors, vectors, side="right") - 1

    def blocks(self, size: int) -> Iterator[tuple[range, Reps]]:
        """(document rows, representations) of all documents, at most `size` together."""
        for shard in self.shards:
            rows = self.rows(shard)
            for start in range(0, len(rows), size):
                stop = min(start + size, len(rows))
                yield rows[start:stop], self._slice(shard, start, stop)

    def gather(self, doc_rows: np.ndarray) -> Reps:
        """Representations of documents in ascending order of row."""
        shard_of = doc_rows // self.per_shard
        parts: list[Tensor] = []
        lengths: list[Tensor] = []
        for shard in np.unique(shard_of).tolist():
            places = torch.from_numpy(doc_rows[shard_of == shard] - shard * self.per_shard)
            values, offsets = self._tensors(shard)
            if offsets is None:
                parts.append(values[places].float())
                continue
            starts, ends = offsets[places], offsets[places + 1]
            lengths.append(ends - starts)
            wanted = [torch.arange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
            parts.append(values[torch.cat(wanted)].float())
        joined = torch.cat(parts)
        return padded(joined, torch.cat(lengths)) if lengths else joined

    def _slice(self, shard: int, start: int, stop: int) -> Reps:
        values, offsets = self._tensors(shard)
        if offsets is None:
            return values[start:stop].float()
        ends = offsets[start : stop + 1]
        return padded(values[int(ends[0]) : int(ends[-1])].float(), ends.diff())

    def _tensors(self, shard: int) -> tuple[Tensor, Tensor | None]:
        """values and offsets of a shard; pages are read when they are looked at."""
        if shard not in self._open:
            path = self.path(shard)
            try:
                with safe_open(path, "pt") as file:
                    names, facts = file.keys(), file.metadata() or {}
                    values = file.get_tensor("values")
                    offsets = file.get_tensor("offsets") if "offsets" in names else None
            except (SafetensorError, OSError) as error:
                raise StoreError(f"{path}: not a whole shard ({error}); delete it and run the command again") from None
            docs = len(values) if offsets is None else len(offsets) - 1
            if facts.get("key") != self.key or docs != len(self.rows(shard)):
                raise StoreError(f"{path}: belongs to other documents or another ranker; delete it and run again")
            while len(self._open) >= OPEN_SHARDS:
                self._open.pop(next(iter(self._open)))
            self._open[shard] = values, offsets
        return self._open[shard]

    @cached_property
    def _open(self) -> dict[int, tuple[Tensor, Tensor | None]]:
        return {}


def padded(values_RD: Tensor, lengths_N: Tensor) -> Vectors:
    """The vectors of N documents, given one after the other, as `Vectors`."""
    longest = max(1, int(lengths_N.max())) if len(lengths_N) else 1
    mask_NL = torch.arange(longest) < lengths_N[:, None]
    values_NLD = values_RD.new_zeros(len(lengths_N), longest, values_RD.shape[1])
    values_NLD[mask_NL] = values_RD
    return Vectors(values_NLD, mask_NL)
