"""Scored ids from outside, as rows of the collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from stillhouse.candidates.ranking import best_first, id_ranks
from stillhouse.collection.texts import Collection
from stillhouse.errors import CollectionError
from stillhouse.records import ScoredDoc


def rank(
    rows: Iterable[tuple[str, ScoredDoc]], source: str, collection: Collection, split_name: str, depth: int
) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], Counter[str]]:
    """query row -> (doc rows, scores), and counts of what names no query of the split or no document.

    Raises CollectionError when nothing is known, or a document stands twice for a query.
    """
    query_rows, doc_rows = collection.splits[split_name].queries.row_of, collection.docs.row_of
    counts: Counter[str] = Counter()
    found: dict[int, dict[int, float]] = {}
    for place, row in rows:
        counts["lines"] += 1
        query_row, doc_row = query_rows.get(row.query_id), doc_rows.get(row.doc_id)
        if query_row is None:
            counts["lines of queries not in the split"] += 1
        elif doc_row is None:
            counts["lines of unknown documents"] += 1
        elif doc_row in found.setdefault(query_row, {}):
            raise CollectionError(f"{place}: document {row.doc_id} stands twice for query {row.query_id}; keep one")
        else:
            found[query_row][doc_row] = row.score
    if not counts["lines"]:
        raise CollectionError(f"{source}: an empty run; expected lines of query Q0 document rank score tag")
    if not found:
        raise CollectionError(
            f"{source}: none of {counts['lines']} lines names a query of {split_name} and a document of the collection"
        )
    ranks = id_ranks(collection.docs.ids)
    return {query_row: _best(docs, ranks, depth) for query_row, docs in found.items()}, counts


def _best(docs: dict[int, float], ranks: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    doc_rows = np.fromiter(docs.keys(), dtype=np.int32)
    scores = np.fromiter(docs.values(), dtype=np.float32)  # trec_eval's precision, so its ties
    best = best_first(scores, ranks[doc_rows], depth)
    return doc_rows[best], scores[best]
