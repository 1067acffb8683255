"""The ranked candidates of one split, and the one rule for ties."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from stillhouse.collection.texts import Collection, Ids
from stillhouse.mapped import mapped_arrays
from stillhouse.records import CANDIDATE_SCHEMA, Run


class Candidates:
    """Per query its documents, best first; ties by document id as trec_eval breaks them (the greater id first).

    Queries are rows of the split, documents rows of the collection. A query may have none. Cheap to pickle.
    """

    def __init__(self, path: Path, key: str, facts: dict[str, Any]) -> None:
        self.path = path
        self.key = key
        self.facts = facts
        """Counts: queries, pairs, queries without candidates, and what was skipped."""

    def __reduce__(self) -> tuple[type[Candidates], tuple[Path, str, dict[str, Any]]]:
        return Candidates, (self.path, self.key, self.facts)

    def __len__(self) -> int:
        return int(self.facts["queries"])

    def rows(self, query_row: int) -> np.ndarray:
        """int32 [K]: document rows."""
        return self._columns["doc_row"][self._slice(query_row)]

    def scores(self, query_row: int) -> np.ndarray:
        """float32 [K]: first-stage scores."""
        return self._columns["score"][self._slice(query_row)]

    def run(self, collection: Collection, split_name: str, depth: int | None = None) -> Run:
        """The candidates as a TREC run; queries without any are left out, as in a run file."""
        query_ids, doc_ids = collection.splits[split_name].queries.ids, collection.docs.ids
        return {
            query_id: dict(
                zip(doc_ids.of(self.rows(query_row)[:depth]), self.scores(query_row)[:depth].tolist(), strict=True)
            )
            for query_row, query_id in enumerate(query_ids)
            if len(self.rows(query_row))
        }

    def recall(self, qrels: Mapping[int, Mapping[int, int]], depth: int | None = None) -> float:
        """Mean over queries with positives of the share of positives (grade > 0) among the first `depth`."""
        shares = []
        for query_row, grades in qrels.items():
            positives = {row for row, grade in grades.items() if grade > 0}
            if positives:
                found = positives.intersection(self.rows(query_row)[:depth].tolist())
                shares.append(len(found) / len(positives))
        return float(np.mean(shares)) if shares else 0.0

    def _slice(self, query_row: int) -> slice:
        if not 0 <= query_row < len(self):
            raise IndexError(f"query row {query_row} of {len(self)}")
        return slice(self._offsets[query_row], self._offsets[query_row + 1])

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return mapped_arrays(self.path, self._read)

    def _read(self) -> dict[str, np.ndarray]:
        table = pq.read_table(self.path, schema=CANDIDATE_SCHEMA)
        offsets = np.searchsorted(table["query_row"].to_numpy(), np.arange(len(self) + 1))
        return {"doc_row": table["doc_row"].to_numpy(), "score": table["score"].to_numpy(), "offsets": offsets}

    @property
    def _offsets(self) -> np.ndarray:
        return self._columns["offsets"]


def id_ranks(doc_ids: Ids) -> np.ndarray:
    """int64 [documents]: position of each id among the sorted ids (by UTF-8's bytes, which is by code point)."""
    ranks = np.empty(len(doc_ids), dtype=np.int64)
    ranks[compute.sort_indices(doc_ids.column).to_numpy()] = np.arange(len(doc_ids))
    return ranks


def best_first(scores: np.ndarray, ranks: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the `depth` best: score descending, then id descending (trec_eval's rule)."""
    positions = np.arange(len(scores))
    if len(scores) > depth:
        bound = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        positions = np.flatnonzero(scores >= bound)
    order = np.lexsort((-ranks[positions], -scores[positions]))
    return positions[order[:depth]]


def to_table(ranked: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    """query_row -> (doc rows, scores), each best first, as the rows that are stored."""
    filled = [(query_row, *ranked[query_row]) for query_row in sorted(ranked) if len(ranked[query_row][0])]
    columns = [
        np.repeat(np.array([row for row, _, _ in filled], dtype=np.int32), [len(docs) for _, docs, _ in filled]),
        np.concatenate([docs for _, docs, _ in filled] or [np.zeros(0)]).astype(np.int32),
        np.concatenate([scores for _, _, scores in filled] or [np.zeros(0)]).astype(np.float32),
    ]
    return pa.table(columns, schema=CANDIDATE_SCHEMA)
