"""A materialised collection: Arrow files that every worker memory-maps, with rows as the names of texts."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import DONE, text_hash
from stillhouse.errors import CollectionError

HASH = np.dtype("S32")
"""The hex digits of `artifacts.text_hash`."""
_AT_ONCE = 4_096


class Strings(Sequence[str]):
    """row -> string, read from a mapped file a part at a time; an iteration holds few of them at once."""

    @abstractmethod
    def _part(self, rows: slice) -> list[str]: ...

    @abstractmethod
    def _one(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        return self._part(row) if isinstance(row, slice) else self._one(row)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._part(slice(start, start + _AT_ONCE))


class Hashes(Strings):
    """`artifacts.text_hash` of each text of a side, row by row: 32 bytes apiece, a third of a list of strings."""

    def __init__(self, digits: np.ndarray) -> None:
        self.digits = digits
        """[texts] of HASH, what `scores.keys` joins by."""

    def __len__(self) -> int:
        return len(self.digits)

    def _part(self, rows: slice) -> list[str]:
        return [each.decode() for each in self.digits[rows].tolist()]

    def _one(self, row: int) -> str:
        return str(self.digits[row].decode())


class Ids(Strings):
    """The id of each text of a side, row by row; a list of all would stand in every process that trains."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def _part(self, rows: slice) -> list[str]:
        ids: list[str] = self.column[rows].to_pylist()
        return ids

    def _one(self, row: int) -> str:
        return str(self.column[int(row)].as_py())

    def of(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The ids of some rows."""
        # One by one: `take` would join all chunks of the column first, at each call.
        return [self._one(row) for row in rows]


class Texts:
    """Documents, or the queries of a split; the row number is the position. Cheap to pickle: only the path travels."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest
        """Identity of ids and texts in their order."""

    def __reduce__(self) -> tuple[type[Texts], tuple[Path, str]]:
        return Texts, (self.path, self.digest)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def text(self, row: int) -> str:
        return str(self._table["text"][int(row)].as_py())

    def texts(self, rows: Iterable[int]) -> list[str]:
        return [self.text(row) for row in rows]

    @cached_property
    def ids(self) -> Ids:
        return Ids(self._table["id"])

    @cached_property
    def row_of(self) -> dict[str, int]:
        """id -> row"""
        return {text_id: row for row, text_id in enumerate(self.ids)}

    @cached_property
    def hashes(self) -> Hashes:
        """row -> `artifacts.text_hash` of the text; mapped from the file beside the texts, where there is one."""
        file = hash_file(self.path)
        if file.is_file():
            # As a plain array over the map: a memmap takes a microsecond for each row it is asked for.
            return Hashes(np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)))
        digits = np.empty(len(self), HASH)
        for row, text in enumerate(self._table["text"]):
            digits[row] = text_hash(text.as_py())
        return Hashes(digits)

    @cached_property
    def _table(self) -> pa.Table:
        return read_arrow(self.path)


class Qrels(Mapping[int, dict[int, int]]):
    """query_row -> doc_row -> grade, also grades of 0; every query that is there has a grade above 0.

    Read from the mapped file query by query, for the reason that `Ids` has. The rows of the file stand by query.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[type[Qrels], tuple[Path]]:
        return Qrels, (self.path,)

    def __getitem__(self, query_row: int) -> dict[int, int]:
        queries, docs, grades = self._columns
        # In the column's own type: numpy would convert the whole column otherwise.
        start, stop = np.searchsorted(queries, np.asarray((query_row, query_row + 1), queries.dtype))
        if start == stop:
            raise KeyError(query_row)
        return dict(zip(docs[start:stop].tolist(), grades[start:stop].tolist(), strict=True))

    def __iter__(self) -> Iterator[int]:
        queries = self._columns[0]
        return iter(queries[np.diff(queries, prepend=-1) > 0].tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(np.diff(self._columns[0], prepend=-1)))

    @cached_property
    def _columns(self) -> tuple[np.ndarray, ...]:
        table = read_arrow(self.path).combine_chunks()
        return tuple(table[name].to_numpy() for name in ("query_row", "doc_row", "relevance"))


@dataclass(frozen=True)
class Split:
    name: str
    queries: Texts
    qrels: Qrels


@dataclass(frozen=True)
class Collection:
    path: Path
    digest: str
    docs: Texts
    splits: dict[str, Split]
    facts: dict[str, Any]
    """ref of each split, counts, and what was skipped by reason."""


def open_collection(path: Path) -> Collection:
    """The collection that `materialise` wrote to a folder."""
    path = Path(path)
    if not (path / DONE).is_file():
        raise CollectionError(f"{path}: no finished collection; materialise it first")
    facts = json.loads((path / DONE).read_text())
    splits = {
        name: Split(name, Texts(path / f"queries.{name}.arrow", digest), Qrels(path / f"qrels.{name}.arrow"))
        for name, digest in facts["query_digests"].items()
    }
    return Collection(path, facts["digest"], Texts(path / "docs.arrow", facts["docs_digest"]), splits, facts)


def hash_file(texts: Path) -> Path:
    """Where the hashes of a file of texts lie."""
    return texts.with_suffix(".hashes.npy")


def read_arrow(path: Path) -> pa.Table:
    """A memory-mapped Arrow IPC file; nothing is copied."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
