"""One file of scores: written whole, named by what it holds and by its own checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import atomic_file
from stillhouse.errors import StoreError
from stillhouse.records import SCORE_SCHEMA

CHECKSUM_DIGITS = 16


def write_scores(folder: Path, generation: str, table: pa.Table) -> Path:
    """Write `folder/gen=<generation>-<checksum>.parquet`; it appears complete or not at all.

    The checksum in the name needs no second file, so a file and its proof appear in one rename, and two writers of
    equal bytes write the same file.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table.select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA), sink, compression="zstd")
    content = sink.getvalue()
    checksum = hashlib.sha256(content).hexdigest()[:CHECKSUM_DIGITS]
    path = folder / f"gen={generation}-{checksum}.parquet"
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}; make room, then run the same command again: "
            "finished shards are kept"
        ) from None
    return path


def read_scores(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a file, after its bytes were checked against its name."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest()[:CHECKSUM_DIGITS] != named_checksum(path):
        raise StoreError(f"{path}: its bytes changed since it was written; run `stillhouse scores verify`, then score")
    return pq.read_table(pa.BufferReader(content), columns=columns, schema=SCORE_SCHEMA)


def is_intact(path: Path) -> bool:
    """Whether the bytes are those that were written."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:CHECKSUM_DIGITS] == named_checksum(path)
    except OSError:
        return False


def named_checksum(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def score_files(folder: Path, generation: str = "*") -> list[Path]:
    """The files of a partition, by name; only one generation's if it is given."""
    return sorted(folder.glob(f"gen={generation}-{'[0-9a-f]' * CHECKSUM_DIGITS}.parquet"))
