"""Token ids of texts: made once per (texts, tokenizer), memory-mapped, uncapped, without special tokens."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stillhouse.artifacts import built_once, stable_hash
from stillhouse.collection.texts import Texts

_BATCH = 1024


class Tokeniser(Protocol):
    """The part of a ranker that reads text."""

    @property
    def tokenizer_digest(self) -> str: ...

    def tokenise(self, texts: list[str]) -> list[list[int]]: ...


class Rows(Protocol):
    """row -> token ids, with all their lengths."""

    @property
    def lengths(self) -> np.ndarray: ...

    def __getitem__(self, row: int) -> np.ndarray: ...


class TokenIds:
    """row -> ids. Cheap to pickle: only the path travels."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[type[TokenIds], tuple[Path]]:
        return TokenIds, (self.path,)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._ids[self._offsets[row] : self._offsets[row + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [texts]: tokens of each text."""
        return np.diff(self._offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [rows]: tokens of these texts, without a number in memory for each of the collection."""
        return np.asarray(self._offsets[rows + 1] - self._offsets[rows])

    @cached_property
    def _ids(self) -> np.ndarray:
        return _load(self.path / "ids.npy")

    @cached_property
    def _offsets(self) -> np.ndarray:
        return _load(self.path / "offsets.npy")


def token_ids(texts: Texts, ranker: Tokeniser, root: Path) -> TokenIds:
    """The ids of all texts under a ranker's tokenizer, below `root/tokens/<key>/`."""
    path = Path(root).absolute() / "tokens" / stable_hash([texts.digest, ranker.tokenizer_digest])

    def build(folder: Path) -> dict[str, Any]:
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        raw = folder / "ids.raw"
        with raw.open("wb") as stream:
            for start in range(0, len(texts), _BATCH):
                rows = range(start, min(start + _BATCH, len(texts)))
                batch = ranker.tokenise(texts.texts(rows))
                offsets[start + 1 : rows.stop + 1] = [len(ids) for ids in batch]
                np.array([token for ids in batch for token in ids], dtype=np.int32).tofile(stream)
        np.cumsum(offsets, out=offsets)
        np.save(folder / "offsets.npy", offsets)
        # Through a map, so that the ids of a large collection never stand in memory at once.
        ids = np.memmap(raw, dtype=np.int32, mode="r") if offsets[-1] else np.zeros(0, dtype=np.int32)
        np.save(folder / "ids.npy", ids)
        raw.unlink()
        return {"texts": texts.digest, "tokenizer": ranker.tokenizer_digest, "tokens": int(offsets[-1])}

    built_once(path, build)
    return TokenIds(path)


def _load(path: Path) -> np.ndarray:
    # A plain array over the map: a memmap takes a microsecond more for every text that is asked for.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
