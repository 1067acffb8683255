"""The queries on which two rankers differ most, with texts (Menon et al., Tables 3, 10 and 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillhouse.errors import CollectionError
from stillhouse.evaluation.trec import ranked
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.collection import Collection


@dataclass(frozen=True)
class RankedText:
    """A document at its rank."""

    rank: int
    doc_id: str
    grade: int | None
    """None: not judged."""
    text: str


@dataclass(frozen=True)
class Difference:
    """One query, its values under rankers a and b, and what each put on top."""

    query_id: str
    query: str
    value_a: float
    value_b: float
    top_a: tuple[RankedText, ...] = ()
    top_b: tuple[RankedText, ...] = ()

    @property
    def difference(self) -> float:
        """a - b: above 0 where a is better."""
        return self.value_a - self.value_b


def differences(
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    collection: Collection,
    split_name: str,
    count: int = 10,
    *,
    run_a: Run | None = None,
    run_b: Run | None = None,
    top: int = 5,
) -> list[Difference]:
    """The `count` queries that differ most in one measure, largest difference first; equal queries are left out.

    Queries of equal difference stand in the order of their ids. With runs, the `top` documents of each are shown.
    """
    if values_a.keys() != values_b.keys():
        raise CollectionError(
            "differences: the two rankers have values of different queries; measure both on one split"
        )
    gaps = {query_id: values_a[query_id] - values_b[query_id] for query_id in values_a}
    chosen = sorted(
        (query_id for query_id in gaps if gaps[query_id]), key=lambda query_id: (-abs(gaps[query_id]), query_id)
    )
    queries = collection.splits[split_name].queries
    return [
        Difference(
            query_id,
            queries.text(queries.row_of[query_id]),
            values_a[query_id],
            values_b[query_id],
            _top(run_a, query_id, collection, split_name, top),
            _top(run_b, query_id, collection, split_name, top),
        )
        for query_id in chosen[:count]
    ]


def _top(run: Run | None, query_id: str, collection: Collection, split_name: str, top: int) -> tuple[RankedText, ...]:
    if run is None:
        return ()
    split, docs = collection.splits[split_name], collection.docs
    grades = split.qrels.get(split.queries.row_of[query_id], {})
    best = ranked(run.get(query_id, {}))[:top]
    rows = [docs.row_of[doc_id] for doc_id in best]
    return tuple(
        RankedText(rank, doc_id, grades.get(row), docs.text(row))
        for rank, (doc_id, row) in enumerate(zip(best, rows, strict=True), start=1)
    )
