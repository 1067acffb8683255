"""Scores put aside on disk by the hash of their query, so that a file larger than memory is sorted part by part."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

ROW = np.dtype([("query", "<i4"), ("doc", "<i4"), ("score", "<f4")])
"""Row numbers of the two texts and the score: 12 bytes."""
_BUFFERED = 8_192
"""Rows of one part that wait in memory."""


class Aside:
    """Rows in a temporary folder, one file a part; within a part they keep the order they came in."""

    def __init__(self, part_of_query: np.ndarray) -> None:
        self._part_of_query = part_of_query.tolist()
        self._parts = sorted(set(self._part_of_query))
        self._waiting = {part: (array("i"), array("i"), array("f")) for part in self._parts}
        self.total = 0

    def __enter__(self) -> Aside:
        self._folder = tempfile.TemporaryDirectory(prefix="stillhouse-import-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, query: int, doc: int, score: float) -> None:
        part = self._part_of_query[query]
        queries, docs, scores = self._waiting[part]
        queries.append(query)
        docs.append(doc)
        scores.append(score)
        self.total += 1
        if len(queries) == _BUFFERED:
            self._flush(part)

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(part, rows of ROW) of each part that has any."""
        for part in self._parts:
            self._flush(part)
            if self._file(part).exists():
                yield part, np.fromfile(self._file(part), ROW)

    def replace(self, part: int, rows: np.ndarray) -> None:
        rows.tofile(self._file(part))

    def _flush(self, part: int) -> None:
        queries, docs, scores = self._waiting[part]
        if not queries:
            return
        rows = np.empty(len(queries), ROW)
        rows["query"], rows["doc"], rows["score"] = queries, docs, scores
        with self._file(part).open("ab") as stream:
            stream.write(rows.tobytes())
        self._waiting[part] = (array("i"), array("i"), array("f"))

    def _file(self, part: int) -> Path:
        return Path(self._folder.name, f"{part}.rows")
