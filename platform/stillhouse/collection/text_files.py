"""Lines of plain, gzip or zstd text files; what is wrong is told with file and place."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa

from stillhouse.errors import CollectionError

Opened = Callable[[BinaryIO], object]
"""Told the file as it lies on disk, whose position says how much of it was read."""


def read_lines(path: Path, opened: Opened = lambda raw: None) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without the line end) of the lines that are not blank.

    Raises CollectionError for bytes that are not UTF-8, and for damaged compressed files.
    """
    position = 0
    with open_bytes(path, opened) as stream:
        for number, raw in enumerate(stream, start=1):
            data = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                line = data.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = position + len(raw) - len(data) + error.start
                unpacked = " of the unpacked text" if path.suffix in (".gz", ".zst") else ""
                raise CollectionError(
                    f"{path}, line {number}: not UTF-8 at byte {byte}{unpacked} (0x{data[error.start]:02x}); "
                    "convert the file to UTF-8"
                ) from None
            position += len(raw)
            if line.strip():
                yield number, line.rstrip("\r\n")


def read_jsonl(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON-lines file whose `required` fields are strings."""
    expected = "expected one JSON object per line with the strings " + ", ".join(required)
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CollectionError(f"{path}, line {number}: not JSON ({error}); {expected}") from None
        if not isinstance(row, dict):
            raise CollectionError(f"{path}, line {number}: found a JSON {type(row).__name__}; {expected}")
        for field in required:
            if not isinstance(row.get(field), str):
                raise CollectionError(f"{path}, line {number}: {field} is {row.get(field)!r}; {expected}")
        yield number, row


@contextmanager
def open_bytes(path: Path, opened: Opened = lambda raw: None) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The unpacked bytes of a file: gzip for `.gz`, zstd for `.zst`, else as it is.

    Raises CollectionError where a compressed file is damaged, also while it is read.
    """
    with path.open("rb") as raw:
        opened(raw)
        try:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked
            elif path.suffix == ".zst":
                with io.BufferedReader(pa.CompressedInputStream(raw, "zstd"), 1 << 16) as unpacked_zstd:
                    yield unpacked_zstd
            else:
                yield raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CollectionError(f"{path}: damaged gzip file ({error}); fetch or compress it again") from None
        except OSError as error:
            if path.suffix != ".zst" or error.errno:
                raise
            raise CollectionError(f"{path}: damaged zstd file ({error}); fetch or compress it again") from None
