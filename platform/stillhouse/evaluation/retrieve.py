"""Exact full retrieval with a separable ranker: every query against every document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.errors import RecipeError
from stillhouse.evaluation.rerank import Progress
from stillhouse.records import Run

if TYPE_CHECKING:
    from torch import Tensor

    from stillhouse.collection import Collection
    from stillhouse.rankers import Ranker

DOCS_PER_CHUNK = 2048


def retrieve(
    ranker: Ranker,
    collection: Collection,
    split_name: str,
    depth: int,
    root: Path,
    *,
    progress: Progress | None = None,
) -> Run:
    """The `depth` best documents of the whole collection for each query of a split; `progress` counts documents.

    Document representations are made chunk by chunk and dropped again: memory holds one chunk and the best so far.
    """
    import torch

    from stillhouse.collection import token_ids
    from stillhouse.rankers.separable import SeparableRanker

    if not isinstance(ranker, SeparableRanker):
        raise RecipeError(f"full retrieval needs a separable ranker, {ranker.key} reads query and document together")
    queries, docs = collection.splits[split_name].queries, collection.docs
    query_ids, doc_ids = token_ids(queries, ranker.reader("query"), root), token_ids(docs, ranker.reader("doc"), root)
    depth = min(depth, len(docs))
    best: tuple[Tensor, Tensor] | None = None
    with ranker.inference():
        query_reps = ranker.encode_queries([query_ids[row] for row in range(len(queries))])
        for start in range(0, len(docs), DOCS_PER_CHUNK):
            rows = range(start, min(start + DOCS_PER_CHUNK, len(docs)))
            scores_QN = ranker.interact(query_reps, ranker.encode_docs([doc_ids[row] for row in rows]))
            rows_QN = torch.arange(rows.start, rows.stop, device=scores_QN.device).expand_as(scores_QN)
            if best is not None:
                scores_QN, rows_QN = torch.cat([best[0], scores_QN], 1), torch.cat([best[1], rows_QN], 1)
            scores_QK, places_QK = scores_QN.topk(min(depth, scores_QN.shape[1]), dim=1)
            best = scores_QK, rows_QN.gather(1, places_QK)
            if progress is not None:
                progress(rows.stop, len(docs))
    assert best is not None
    return {
        query_id: {docs.ids[row]: score for row, score in zip(rows, scores, strict=True)}
        for query_id, scores, rows in zip(queries.ids, best[0].tolist(), best[1].tolist(), strict=True)
    }
