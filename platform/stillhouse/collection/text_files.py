"""Lines of plain or gzip text files; what is wrong is told with file and place."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stillhouse.errors import CollectionError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without the line end) of the lines that are not blank.

    Raises CollectionError for bytes that are not UTF-8, and for damaged gzip files.
    """
    position = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                data = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                try:
                    line = data.decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = position + len(raw) - len(data) + error.start
                    unpacked = " of the unpacked text" if path.suffix == ".gz" else ""
                    raise CollectionError(
                        f"{path}, line {number}: not UTF-8 at byte {byte}{unpacked} (0x{data[error.start]:02x}); "
                        "convert the file to UTF-8"
                    ) from None
                position += len(raw)
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CollectionError(f"{path}: damaged gzip file ({error}); fetch or compress it again") from None


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


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
