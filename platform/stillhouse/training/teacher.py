"""The teacher's scores of one split, by row numbers, as the training loop reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import atomic_file
from stillhouse.mapped import mapped_arrays

TEACHER_SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32()), ("score", pa.float32())])


class TeacherScores:
    """Scores of (query row, document row) pairs."""

    def __init__(self, query_rows: np.ndarray, doc_rows: np.ndarray, scores: np.ndarray) -> None:
        keys = _keys(query_rows, doc_rows)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._scores = np.asarray(scores, dtype=np.float32)[order]

    def of(self, query_row: int, doc_rows: np.ndarray) -> np.ndarray:
        """float32 scores of some documents for one query; NaN where the teacher did not score the pair."""
        wanted = _keys(np.full(len(doc_rows), query_row), doc_rows)
        if not len(self._keys):
            return np.full(len(wanted), np.nan, dtype=np.float32)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._scores[places], np.float32(np.nan)).astype(np.float32)

    @classmethod
    def read(cls, path: Path) -> TeacherScores:
        """The scores of a file, in memory that the processes of a node share."""

        def make() -> dict[str, np.ndarray]:
            table = pq.read_table(path, schema=TEACHER_SCHEMA)
            scores = cls(*(table[name].to_numpy() for name in TEACHER_SCHEMA.names))
            return {"keys": scores._keys, "scores": scores._scores}

        arrays = mapped_arrays(path, make)
        found = cls.__new__(cls)
        found._keys, found._scores = arrays["keys"], arrays["scores"]
        return found


def write_teacher_scores(path: Path, rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Write (query rows, document rows, scores) pieces as one Parquet file."""
    pieces = list(rows)
    columns = [np.concatenate([piece[i] for piece in pieces]) for i in range(3)]
    table = pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, TEACHER_SCHEMA, strict=True)],
        schema=TEACHER_SCHEMA,
    )
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def _keys(query_rows: np.ndarray, doc_rows: np.ndarray) -> np.ndarray:
    return np.asarray(query_rows, dtype=np.int64) << 32 | np.asarray(doc_rows, dtype=np.int64)
