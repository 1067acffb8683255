"""Retrieval by an index, then by exact scores, and how much of the exact result that finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillhouse.errors import RecipeError
from stillhouse.evaluation.rerank import Progress
from stillhouse.evaluation.retrieve import Found, rescore
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.collection import Collection
    from stillhouse.evaluation.ann import AnnIndex
    from stillhouse.evaluation.encoded import EncodedDocs
    from stillhouse.rankers import Ranker
    from stillhouse.rankers.reps import Reps

SEARCHABLE = ("dual_encoder", "colbert")
"""Rankers whose score grows with products of vectors."""

LEAST_PER_TOKEN = 128


def searcher(ranker: Any, encoded: EncodedDocs, index: AnnIndex) -> Callable[[Reps, int, Progress | None], Found]:
    """A search for `retrieve`: documents by the index, their scores exact.

    With one vector a document the nearest are the candidates. With one a token the documents of the vectors nearest to
    each query token are put together (Khattab and Zaharia, arXiv:2004.12832, section 3.6), then scored by MaxSim; they
    can be fewer than the depth.
    """
    check_searchable(ranker)

    def search(queries: Reps, depth: int, progress: Progress | None) -> Found:
        candidates = by_token if encoded.multi_vector else by_vector
        return rescore(ranker, encoded, queries, candidates(encoded, index, queries, depth), depth)

    return search


def check_searchable(ranker: Ranker) -> None:
    """RecipeError for a ranker that no index of vectors serves."""
    if ranker.key not in SEARCHABLE:
        raise RecipeError(
            f"an index serves {' and '.join(SEARCHABLE)}, whose scores are products of vectors, not {ranker.key}; "
            "use --index exact"
        )


def by_vector(encoded: EncodedDocs, index: AnnIndex, queries: Any, depth: int) -> list[np.ndarray]:
    """Ascending document rows near each query's one vector."""
    found_QM = index.nearest(queries.float().cpu().numpy(), depth)
    return [np.unique(found_M[found_M >= 0]) for found_M in found_QM]


def by_token(encoded: EncodedDocs, index: AnnIndex, queries: Any, depth: int) -> list[np.ndarray]:
    """Ascending document rows with a token near one of the query's tokens."""
    values_TD = queries.values_NLD[queries.mask_NL].float().cpu().numpy()
    found_TM = index.nearest(values_TD, index.per_token or max(depth, LEAST_PER_TOKEN))
    ends = queries.mask_NL.sum(1).cumsum(0).tolist()
    rows = []
    for start, end in zip([0, *ends], ends, strict=False):
        found = np.unique(found_TM[start:end])
        rows.append(np.unique(encoded.docs_of(found[found >= 0])))
    return rows


def recall(found: Mapping[str, Mapping[str, float]], exact: Mapping[str, Mapping[str, float]], depth: int) -> float:
    """Mean share of the `depth` best scores that were found; a document that ties with the last counts as one.

    A relative 1e-5 is forgiven: the same product may be summed in another order.
    """
    shares = []
    for query_id, scores in exact.items():
        best = sorted(scores.values(), reverse=True)[:depth]
        bound = best[-1] - 1e-5 * max(1.0, abs(best[-1]))
        shares.append(min(1.0, sum(score >= bound for score in found.get(query_id, {}).values()) / len(best)))
    return float(np.mean(shares)) if shares else 1.0


def check_recall(
    ranker: Ranker,
    collection: Collection,
    split_name: str,
    encoded: EncodedDocs,
    run: Run,
    root: Path,
    queries: int,
    depths: Sequence[int],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[int, float]:
    """Depth -> recall of `run` against exact search, on a seeded sample of the split's queries."""
    from stillhouse.evaluation.retrieve import retrieve

    names = collection.splits[split_name].queries.ids
    chosen = np.random.default_rng(seed).permutation(len(names))[:queries].tolist()
    best = retrieve(
        ranker, collection, split_name, max(depths), root, encoded=encoded, query_rows=chosen, progress=progress
    )
    return {depth: recall(run, best, depth) for depth in depths}
