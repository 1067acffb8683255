"""Training triples of a file: for each query its (positive, negative) pairs, by row numbers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv

from stillhouse.artifacts import cached_folder, file_digest, stable_hash
from stillhouse.errors import CollectionError

if TYPE_CHECKING:
    from stillhouse.collection import Collection

COLUMNS = ("query_id", "positive_id", "negative_id")
logger = logging.getLogger(__name__)


class Triples:
    """The triples of one split, sorted by query and otherwise in the file's order; memory-mapped, cheap to pickle."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest
        """Identity of the file they came from."""

    def __reduce__(self) -> tuple[type[Triples], tuple[Path, str]]:
        return Triples, (self.path, self.digest)

    def of(self, query_row: int) -> tuple[np.ndarray, np.ndarray]:
        """int32 rows of the positives and of the negatives of a query's triples; empty where it has none."""
        start, stop = np.searchsorted(self._rows[:, 0], (query_row, query_row + 1))
        return self._rows[start:stop, 1], self._rows[start:stop, 2]

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        rows: np.ndarray = np.load(self.path / "rows.npy", mmap_mode="r", allow_pickle=False)
        return rows


def open_triples(path: str | Path, collection: Collection, root: Path, digest: str | None = None) -> Triples:
    """The triples of a file for the train split, kept as row numbers below `root/triples/<key>/`.

    Lines are `query_id positive_id negative_id` with tabs between, plain or gzip. Triples with a text that the
    collection does not have are left out and counted; CollectionError for a line of another form, or if none is left.
    `digest`: of the file, where it is known; then the file itself is only read if its rows are not kept yet.
    """
    path = Path(path)
    if digest is None:
        if not path.is_file():
            raise CollectionError(f"{path}: no such file; triples are lines of query_id, positive_id, negative_id")
        digest = _digest(path, path.stat().st_size, path.stat().st_mtime_ns)
    folder = Path(root).absolute() / "triples" / stable_hash([digest, collection.digest])

    def build(target: Path) -> dict[str, Any]:
        rows_T3, unknown = _read(path, collection)
        if not len(rows_T3):
            raise CollectionError(
                f"{path}: none of its {unknown:,} triples names a train query and two documents of this collection"
            )
        if unknown:
            logger.warning("%s: %d of %d triples name a text that is not here", path, unknown, unknown + len(rows_T3))
        np.save(target / "rows.npy", rows_T3[np.argsort(rows_T3[:, 0], kind="stable")])
        return {"triples": len(rows_T3), "unknown": unknown}

    cached_folder(folder, build)
    return Triples(folder, digest)


@functools.lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    """A file of gigabytes is read once per command."""
    return file_digest(path)


def _read(path: Path, collection: Collection) -> tuple[np.ndarray, int]:
    """int32 [T, 3] of query, positive and negative rows, and the number of triples with an unknown text."""
    ids = [collection.splits["train"].queries.ids, collection.docs.ids, collection.docs.ids]
    known = [each.column.combine_chunks() for each in ids]
    parts = [np.zeros((0, 3), dtype=np.int32)]
    unknown = 0
    for batch in _batches(path):
        places = [
            compute.fill_null(compute.index_in(column, value_set=values), -1).to_numpy(zero_copy_only=False)
            for column, values in zip(batch.columns, known, strict=True)
        ]
        rows_T3 = np.stack(places, axis=1).astype(np.int32)
        found_T = (rows_T3 >= 0).all(axis=1)
        parts.append(rows_T3[found_T])
        unknown += int((~found_T).sum())
    return np.concatenate(parts), unknown


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The file's columns, some megabytes at a time."""
    bad: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    try:
        yield from csv.open_csv(
            path,
            # Only a reader of one thread knows line numbers.
            read_options=csv.ReadOptions(column_names=list(COLUMNS), use_threads=False),
            parse_options=csv.ParseOptions(
                delimiter="\t", quote_char=False, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())),
        )
    except (pa.ArrowInvalid, OSError) as error:
        place = f"{path}, line {bad[0].number}: {bad[0].actual_columns} fields" if bad else f"{path}: {error}"
        raise CollectionError(
            f"{place}; expected lines of query_id, positive_id and negative_id with tabs between"
        ) from None
