"""Rows of files as they lie on disk, each with its line: text, JSON lines, a JSON array, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.collection.text_files import open_bytes, read_lines
from stillhouse.errors import FormatError
from stillhouse.imports.json_array import elements

Numbered = tuple[int, Any]
"""Line number from 1 (of a table: row number), and what stands there."""


class Files:
    """The files of one import, and how many of their bytes were read."""

    def __init__(self, paths: list[Path]) -> None:
        for path in paths:
            if not path.is_file():
                raise FormatError(f"{path}: no such file")
            if ".pkl" in path.suffixes or ".pickle" in path.suffixes:
                raise FormatError(
                    f"{path}: pickle can run code and is not read; export it as TSV: query document score"
                )
        self.paths = paths
        self.total = sum(path.stat().st_size for path in paths)
        self._opened: list[BinaryIO] = []

    @property
    def read(self) -> int:
        """Bytes on disk that were read."""
        return sum(Path(raw.name).stat().st_size if raw.closed else raw.tell() for raw in self._opened)

    def lines(self, path: Path) -> Iterator[Numbered]:
        """The lines that are not blank."""
        yield from read_lines(path, self._opened.append)

    def objects(self, path: Path) -> Iterator[Numbered]:
        """The rows of a Parquet or Arrow file, the elements of a `.json` array, or the lines of any other file."""
        kind = _kind(path)
        if kind in (".parquet", ".arrow"):
            yield from self.table(path)
        elif kind == ".json" and _is_array(path):
            yield from self.array(path)
        else:
            yield from self.lines(path)

    def table(self, path: Path) -> Iterator[Numbered]:
        """The rows of a Parquet file, or of an Arrow stream as `datasets` saves it, as dicts."""
        with path.open("rb") as raw:
            self._opened.append(raw)
            number = 0
            try:
                for batch in _batches(path, raw):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{path}: cannot be read as {_kind(path)[1:]}: {error}") from None

    def array(self, path: Path) -> Iterator[Numbered]:
        """The elements of one JSON array, read piece by piece."""
        with open_bytes(path, self._opened.append) as stream:
            yield from elements(path, stream)


def _batches(path: Path, raw: BinaryIO) -> Iterator[pa.RecordBatch]:
    if _kind(path) == ".parquet":
        yield from pq.ParquetFile(raw).iter_batches(batch_size=4096)
    else:
        yield from pa.ipc.open_stream(raw)


def _kind(path: Path) -> str:
    """The ending that says what is in a file: that before `.gz` or `.zst`."""
    packed = path.suffix in (".gz", ".zst")
    return Path(path.stem).suffix.lower() if packed else path.suffix.lower()


def _is_array(path: Path) -> bool:
    with open_bytes(path) as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
