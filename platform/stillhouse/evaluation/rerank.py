"""Re-rank the candidates of a split with a ranker, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.errors import TrainingError
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Collection
    from stillhouse.collection.tokens import Rows
    from stillhouse.rankers import Ranker

Progress = Callable[[int, int], None]
"""Called with (queries done, queries in all)."""

Chunk = list[tuple[int, np.ndarray]]
"""Queries scored together: query row and its document rows, best candidate first."""

# Many pairs in one call let a ranker sort by length, so that batches pad little. A separable one also encodes a
# document that several queries share only once; it works through so many in seconds.
PAIRS_PER_CHUNK = 1024
PAIRS_PER_SEPARABLE_CHUNK = 8192


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

    A query without candidates is left out of the run. `root` is where materialised token ids live. Afterwards
    `ranker.truncation` counts the texts of all pairs.
    """
    from stillhouse.collection import token_ids

    queries = collection.splits[split_name].queries
    query_ids = token_ids(queries, ranker.reader("query"), root)
    doc_ids = token_ids(collection.docs, ranker.reader("doc"), root)
    rows = list(range(len(queries)) if query_rows is None else query_rows)
    run: Run = {}
    texts = truncated = done = 0
    for chunk in chunks(candidates, rows, depth, pairs_per_chunk(ranker.separable)):
        run |= named_scores(collection, split_name, chunk, score_chunk(ranker, query_ids, doc_ids, chunk))
        texts += ranker.truncation.texts
        truncated += ranker.truncation.truncated
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows))
    ranker.truncation = replace(ranker.truncation, texts=texts, truncated=truncated)
    return run


def pairs_per_chunk(separable: bool) -> int:
    return PAIRS_PER_SEPARABLE_CHUNK if separable else PAIRS_PER_CHUNK


def chunks(candidates: Candidates, query_rows: Sequence[int], depth: int, limit: int) -> Iterator[Chunk]:
    """Queries in their order, in chunks of at most `limit` pairs; a query is never split, however many it has."""
    chunk: Chunk = []
    pairs = 0
    for row in query_rows:
        docs = candidates.rows(row)[:depth]
        if chunk and pairs + len(docs) > limit:
            yield chunk
            chunk, pairs = [], 0
        chunk.append((row, docs))
        pairs += len(docs)
    if chunk:
        yield chunk


def score_chunk(
    ranker: Ranker, query_ids: Rows, doc_ids: Rows, chunk: Chunk, *, token_budget: int | None = None
) -> list[np.ndarray]:
    """Scores of each query's documents, float32 [K] each: a pure function of the chunk, wherever it runs."""
    scores_QK = ranker.score_tokens(
        [query_ids[row] for row, _ in chunk],
        [[doc_ids[doc] for doc in docs.tolist()] for _, docs in chunk],
        token_budget=token_budget,
    )
    return [scores_K[: len(docs)] for (_, docs), scores_K in zip(chunk, scores_QK, strict=True)]


def named_scores(collection: Collection, split_name: str, chunk: Chunk, scores: Sequence[np.ndarray]) -> Run:
    """The scores of a chunk by ids; queries without documents are left out."""
    query_names, doc_names = collection.splits[split_name].queries.ids, collection.docs.ids
    run: Run = {}
    for (row, docs_K), scores_K in zip(chunk, scores, strict=True):
        finite_K = np.isfinite(scores_K)
        if not finite_K.all():
            bad = doc_names[int(docs_K[np.argmin(finite_K)])]
            raise TrainingError(
                f"query {query_names[row]}, document {bad}: the ranker's score is not finite; its weights are broken"
            )
        if len(docs_K):
            run[query_names[row]] = dict(zip(doc_names.of(docs_K), scores_K.tolist(), strict=True))
    return run
