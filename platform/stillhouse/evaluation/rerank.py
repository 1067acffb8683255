"""Re-rank the candidates of a split with a ranker, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.collection.tokens import token_ids
from stillhouse.errors import TrainingError
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Collection
    from stillhouse.rankers.base import Ranker

Progress = Callable[[int, int], None]
"""Called with (queries done, queries in all)."""

QUERIES_PER_CHUNK = 64
"""Scored together, so that the ranker can sort many documents by length: short batches pad little."""


def rerank(
    ranker: Ranker,
    collection: Collection,
    split_name: str,
    candidates: Candidates,
    depth: int,
    root: Path,
    *,
    query_rows: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Run:
    """The run of a ranker over the first `depth` candidates of each query (all of the split, or `query_rows`).

    A query without candidates is left out of the run. `root` is where materialised token ids live.
    """
    split = collection.splits[split_name]
    query_tokens = token_ids(split.queries, ranker, root)
    doc_tokens = token_ids(collection.docs, ranker, root)
    all_rows = list(range(len(split.queries)) if query_rows is None else query_rows)
    run: Run = {}
    for start, rows in _chunks(all_rows):
        docs = {row: candidates.rows(row)[:depth] for row in rows}
        rows = [row for row in rows if len(docs[row])]
        if rows:
            scores_QK = ranker.score_tokens(
                [query_tokens[row] for row in rows], [[doc_tokens[doc] for doc in docs[row]] for row in rows]
            )
            for row, scores_K in zip(rows, scores_QK, strict=True):
                query_id = split.queries.ids[row]
                run[query_id] = _named(collection.docs.ids, docs[row], scores_K, query_id)
        if progress is not None:
            progress(min(start + QUERIES_PER_CHUNK, len(all_rows)), len(all_rows))
    return run


def _chunks(rows: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    for start in range(0, len(rows), QUERIES_PER_CHUNK):
        yield start, list(rows[start : start + QUERIES_PER_CHUNK])


def _named(ids: Sequence[str], doc_rows_K: np.ndarray, scores_K: np.ndarray, query_id: str) -> dict[str, float]:
    """Scores by document id; the padding behind the query's own documents is cut off."""
    scores_K = scores_K[: len(doc_rows_K)]
    if not np.isfinite(scores_K).all():
        bad = ids[doc_rows_K[int(np.argmin(np.isfinite(scores_K)))]]
        raise TrainingError(
            f"query {query_id}, document {bad}: the ranker's score is not finite; its weights are broken"
        )
    return {ids[doc]: float(score) for doc, score in zip(doc_rows_K, scores_K, strict=True)}
