"""The elements of one long JSON array, without reading it whole; each with the line it begins on."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from stillhouse.errors import FormatError

CHUNK = 1 << 18
_LARGEST = 1 << 28
"""Characters that one element may have; what is longer is an element that nobody closed."""
_AFTER = (" ", "\t", "\r", "\n", ",", "]")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def elements(path: Path, stream: Readable, chunk: int = CHUNK) -> Iterator[tuple[int, Any]]:
    """(line number, element). Raises FormatError with the line where the file stops being a JSON array."""
    window = _Window(path, stream, chunk)
    window.expect("[", "a JSON array")
    if window.next() == "]":
        window.expect("]", "']'")
    else:
        yield window.line, window.element()
        while window.next() != "]":
            window.expect(",", "',' or ']' after an element")
            window.next()
            yield window.line, window.element()
        window.expect("]", "']'")
    if window.next():
        raise window.error("nothing after the array")


class _Window:
    """The part of the text that was read and not yet used; it grows until the next element is whole."""

    def __init__(self, path: Path, stream: Readable, chunk: int) -> None:
        self.line = 1
        self._path = path
        self._stream = stream
        self._chunk = chunk
        self._text = ""
        self._at = 0
        self._ended = False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = json.JSONDecoder().raw_decode

    def next(self) -> str:
        """The next character that is no white space, not yet used; empty at the end of the file."""
        while True:
            start = self._at
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            self.line += self._text.count("\n", start, self._at)
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(self._chunk)

    def expect(self, mark: str, what: str) -> None:
        if self.next() != mark:
            raise self.error(what)
        self._at += 1

    def element(self) -> Any:
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > _LARGEST:
                    line = self.line + self._text.count("\n", self._at, error.pos)
                    raise FormatError(f"{self._path}:{line}: expected JSON, got: {error.msg}") from None
            else:
                # A number may go on in the next piece: `1` of `1.5`, and so may the `1.` of it.
                bounded = self._text[self._at] not in "-0123456789" or self._text[end : end + 1] in _AFTER
                if bounded or self._ended or len(self._text) - self._at > _LARGEST:
                    self.line += self._text.count("\n", self._at, end)
                    self._at = end
                    return value
            # As much again as there is, so that an element is tried a few times only, however long it is.
            self._more(max(self._chunk, len(self._text) - self._at))

    def error(self, expected: str) -> FormatError:
        got = self._text[self._at : self._at + 40] or "the end of the file"
        return FormatError(f"{self._path}:{self.line}: expected {expected}, got {got!r}")

    def _more(self, size: int) -> None:
        data = self._stream.read(size)
        self._ended = not data
        try:
            self._text = self._text[self._at :] + self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            line = self.line + self._text.count("\n", self._at) + error.object.count(b"\n", 0, error.start)
            got = f"byte 0x{error.object[error.start]:02x}"
            raise FormatError(f"{self._path}:{line}: expected UTF-8, got {got}") from None
        self._at = 0
