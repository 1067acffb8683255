"""A format: how its files are read, what a row of them means, and what can be made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from stillhouse.imports.files import Files
from stillhouse.imports.row import Row
from stillhouse.scores.store import Scale


class Place(NamedTuple):
    """Where a row stands: which of the files, and its line (of a table: its row), from 1."""

    file: int
    line: int


Raw = tuple[Place, Any]
Parse = Callable[[Any], Row]
"""One row as it was read -> what it means; raises MalformedError. Pure."""


def each_file(kind: Literal["lines", "objects"]) -> Callable[[Files], Iterator[Raw]]:
    """Reads the files one after the other, as text lines or as JSON-like rows."""

    def read(files: Files) -> Iterator[Raw]:
        for index, path in enumerate(files.paths):
            for line, raw in getattr(files, kind)(path):
                yield Place(index, line), raw

    return read


@dataclass(frozen=True)
class Format:
    about: str
    """One line for a list."""
    read: Callable[[Files], Iterator[Raw]]
    parse: Parse
    parse_pool: Parse | None = None
    """For `--pool`: the candidates are all that a ranker is tested on, positives among them."""
    texts: bool = False
    """Rows bring the texts of queries and passages, which make a collection."""
    triples: bool = False
    """A row is (positive, negative) of a query."""
    scales: tuple[Scale, ...] = ()
    """What its scores can mean, the usual first; none: it has no scores."""
    ranked_by: Literal["rank", "score"] = "rank"
    """What orders the candidates."""
