"""What a collection can be read from: one split of a folder, of `stillhouse/pydocs`, or of an ir_datasets id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from stillhouse.records import Doc, Qrel, Query


class Source(Protocol):
    """Documents, queries and qrels of one split, each with the number of its line or record for messages."""

    ref: str
    docs_key: str
    """Sources with equal keys share their documents; they are read once."""

    def identity(self) -> dict[str, Any]:
        """JSON-able: equal exactly when the texts and qrels are."""

    def facts(self) -> dict[str, Any]:
        """What is known about how the source came to be."""

    def docs(self) -> Iterator[tuple[int, Doc]]: ...

    def queries(self) -> Iterator[tuple[int, Query]]: ...

    def qrels(self) -> Iterator[tuple[int, Qrel]]: ...

    def place(self, kind: str, number: int) -> str:
        """Where record `number` of docs, queries or qrels stands, as a user would look it up."""
