"""Full retrieval with a separable ranker over encoded documents: exact, or by an index and then exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.errors import TrainingError
from stillhouse.evaluation.rerank import Progress
from stillhouse.records import Run

if TYPE_CHECKING:
    from torch import Tensor

    from stillhouse.collection import Collection
    from stillhouse.evaluation.encoded import EncodedDocs
    from stillhouse.rankers import Ranker
    from stillhouse.rankers.reps import Reps

DOCS_PER_CHUNK = 2048
VECTORS_SHARE = 8
"""With one vector a token a block holds fewer documents by this factor."""
QUERIES_AT_ONCE = 1024

Found = tuple["Tensor", "Tensor"]
"""Scores float32 [Q, K], best first, and document rows int64 [Q, K]; -inf and -1 where there are fewer than K."""

Search = Callable[["Reps", int, Progress | None], Found]
"""Called with the representations of Q queries and a depth."""


def retrieve(
    ranker: Ranker,
    collection: Collection,
    split_name: str,
    depth: int,
    root: Path,
    *,
    encoded: EncodedDocs | None = None,
    search: Search | None = None,
    query_rows: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Run:
    """The `depth` best documents of the whole collection for each query of a split (or of `query_rows`).

    Without `encoded` the documents are encoded here, or found under `root`. Without `search` every query meets every
    document, block by block, and `progress` counts documents. RecipeError for a ranker that is not separable.
    """
    from stillhouse.collection import token_ids
    from stillhouse.evaluation.encode import encode, encoding_of

    if encoded is None:
        encoded = encoding_of(ranker, collection.docs, root)
        encode(ranker, collection.docs, root, encoded)
    queries = collection.splits[split_name].queries
    query_ids = token_ids(queries, ranker, root)
    rows = list(range(len(queries)) if query_rows is None else query_rows)
    depth = min(depth, len(encoded))
    run: Run = {}
    for start, stop in _spans(len(rows), QUERIES_AT_ONCE):
        with ranker.inference():
            reps = encode_queries(ranker, [query_ids[row] for row in rows[start:stop]])
            if search is not None:
                found = search(reps, depth, None)
            else:
                found = exact(ranker, encoded, reps, depth, _from(progress, start, len(rows), len(encoded)))
        if search is not None and progress is not None:
            progress(stop, len(rows))
        run |= named(collection, split_name, rows[start:stop], found)
    return run


def encode_queries(ranker: Any, ids: Sequence[Any]) -> Reps:
    """Representations of queries by a separable ranker, on its device."""
    from torch import Tensor

    reps: Reps = ranker.encode_queries(ids)
    # Documents are compared in float32 whatever they are stored in; vectors per token come so.
    return reps.float() if isinstance(reps, Tensor) else reps


def exact(ranker: Any, encoded: EncodedDocs, queries: Reps, depth: int, progress: Progress | None = None) -> Found:
    """Every query against every document; memory holds one block of documents and the best so far."""
    import torch

    best: Found | None = None
    size = max(1, DOCS_PER_CHUNK // VECTORS_SHARE) if encoded.multi_vector else DOCS_PER_CHUNK
    for rows, docs in encoded.blocks(size):
        scores_QN = ranker.interact(queries, docs.to(ranker.device)).float()
        rows_QN = torch.arange(rows.start, rows.stop, device=scores_QN.device).expand_as(scores_QN)
        if best is not None:
            scores_QN, rows_QN = torch.cat([best[0], scores_QN], 1), torch.cat([best[1], rows_QN], 1)
        best = top(scores_QN, rows_QN, depth)
        if progress is not None:
            progress(rows.stop, len(encoded))
    assert best is not None
    return best


def rescore(ranker: Any, encoded: EncodedDocs, queries: Reps, rows_QM: Sequence[Any], depth: int) -> Found:
    """The `depth` best of each query's own documents (ascending rows) by their exact scores."""
    import torch

    scores_QK = torch.full((len(rows_QM), depth), float("-inf"))
    found_QK = torch.full((len(rows_QM), depth), -1)
    for number, rows_M in enumerate(rows_QM):
        if not len(rows_M):
            continue
        docs = encoded.gather(rows_M).to(ranker.device)
        scores_1M = ranker.interact(queries[number : number + 1], docs).float().cpu()
        scores_1K, chosen_1K = top(scores_1M, torch.from_numpy(rows_M)[None], depth)
        scores_QK[number, : scores_1K.shape[1]] = scores_1K[0]
        found_QK[number, : scores_1K.shape[1]] = chosen_1K[0]
    return scores_QK, found_QK


def top(scores_QN: Tensor, rows_QN: Tensor, depth: int) -> Found:
    """The `depth` best of each query, best first."""
    scores_QK, places_QK = scores_QN.topk(min(depth, scores_QN.shape[1]), dim=1)
    return scores_QK, rows_QN.gather(1, places_QK)


def named(collection: Collection, split_name: str, query_rows: Sequence[int], found: Found) -> Run:
    """Found documents by ids; a score of -inf (nothing of the document is compared) is left out, NaN is an error."""
    query_names, docs = collection.splits[split_name].queries.ids, collection.docs
    run: Run = {}
    for query_row, scores, rows in zip(query_rows, found[0].tolist(), found[1].tolist(), strict=True):
        if any(score != score or score == float("inf") for score in scores):
            raise TrainingError(
                f"query {query_names[query_row]}: a score is not finite; the ranker's weights are broken"
            )
        kept = [(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0 and score > float("-inf")]
        if kept:
            names = docs.ids.of([row for row, _ in kept])
            run[query_names[query_row]] = dict(zip(names, (score for _, score in kept), strict=True))
    return run


def _spans(length: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, length)) for start in range(0, length, size))


def _from(progress: Progress | None, start: int, queries: int, docs: int) -> Progress | None:
    """Documents over all blocks of queries."""
    if progress is None:
        return None
    blocks, block = -(-queries // QUERIES_AT_ONCE), start // QUERIES_AT_ONCE
    return lambda done, _: progress(block * docs + done, blocks * docs)
