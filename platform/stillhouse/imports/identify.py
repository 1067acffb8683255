"""Which query and document a row is about: by id, by text, or among those of a collection."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from stillhouse.artifacts import text_hash
from stillhouse.collection import Collection, Texts
from stillhouse.imports.row import Passage, Row, full_text, named_by_text


class Sources:
    """Ids as the source gives them; where it gives none, or `by_text` asks for it, made from the text."""

    def __init__(self, by_text: bool) -> None:
        self._by_text = by_text

    def query(self, row: Row) -> str | None:
        named = row.query_id and not (self._by_text and row.query is not None)
        return row.query_id if named else named_by_text("q", (row.query or "").strip())

    def doc(self, passage: Passage) -> str | None:
        named = passage.doc_id and not (self._by_text and passage.text is not None)
        return passage.doc_id if named else named_by_text("d", full_text(passage.title, passage.text or ""))


class Known:
    """Ids of a collection. A text that the row brings decides: an id may be a row number that means something else."""

    def __init__(self, collection: Collection, counts: Counter[str]) -> None:
        # The splits of the collection are one and the same here, see `open_known`.
        self._queries = _Texts(next(iter(collection.splits.values())).queries, "queries", counts)
        self._docs = _Texts(collection.docs, "passages", counts)

    def query(self, row: Row) -> str | None:
        """The collection's id; None where it has neither the id nor the text."""
        return self._queries.find(row.query_id, None if row.query is None else row.query.strip())

    def doc(self, passage: Passage) -> str | None:
        text = None if passage.text is None else full_text(passage.title, passage.text)
        return self._docs.find(passage.doc_id, text)


class _Texts:
    def __init__(self, texts: Texts, kind: str, counts: Counter[str]) -> None:
        self._texts = texts
        self._kind = kind
        self._counts = counts

    def find(self, given: str, text: str | None) -> str | None:
        row = self._texts.row_of.get(given)
        if text is None or (row is not None and self._texts.text(row) == text):
            return None if row is None else given
        same = self._by_text.get(text_hash(text))
        if same is not None:
            return self._texts.ids[same]
        if row is None:
            return None
        self._counts[f"{self._kind} taken by their id although the collection has another text"] += 1
        return given

    @cached_property
    def _by_text(self) -> dict[str, int]:
        return {text: row for row, text in reversed(list(enumerate(self._texts.hashes)))}
