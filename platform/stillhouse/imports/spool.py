"""Lines put aside by key, so that what belongs together is met together without holding all of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class Spool:
    """Lines in files by the hash of their key. Equal keys share a file; in it the order of arrival stays."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self._folder = folder
        self._streams: list[TextIO | None] = [None] * partitions
        folder.mkdir()

    def add(self, key: str, line: str) -> None:
        """Put a line aside; it may hold no line break."""
        number = zlib.crc32(key.encode()) % len(self._streams)
        stream = self._streams[number]
        if stream is None:
            stream = self._path(number).open("w", encoding="utf-8", newline="\n")
            self._streams[number] = stream
        stream.write(line + "\n")

    def parts(self) -> Iterator[Iterator[str]]:
        """The lines of one file after the other; each file is removed behind the reader."""
        self.close()
        for number, stream in enumerate(self._streams):
            if stream is not None:
                with self._path(number).open(encoding="utf-8", newline="\n") as lines:
                    yield (line[:-1] for line in lines)
                self._path(number).unlink()

    def close(self) -> None:
        for stream in self._streams:
            if stream is not None:
                stream.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}"
