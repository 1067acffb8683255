"""Dev evaluation inside training: the dev candidates re-ranked by the ranker as it is, spread over the ranks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from stillhouse.evaluation.measures import named_qrels, per_query
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import EvaluationSpec
from stillhouse.records import Group, Run
from stillhouse.training import ranks
from stillhouse.training.batches import make_micro_batch, rank_share
from stillhouse.training.job import TrainingData

QUERIES_PER_FORWARD = 16


Scored = list[tuple[int, list[float]]]
"""Query rows and the scores of their candidates, in order."""


@torch.no_grad()
def dev_scores(
    ranker: Ranker, module: nn.Module, data: TrainingData, spec: EvaluationSpec, device: torch.device, size: int
) -> Scored:
    """This rank's share of the dev queries, `size` in a forward. Ranks exchange nothing but what FSDP2 does."""
    split = data.collection.splits["dev"]
    depth = _depth(spec)
    groups = [_group(row, data.dev_candidates.rows(row)[:depth]) for row in range(len(split.queries))]
    groups = [group for group in groups if len(group.doc_rows_K)]
    was_training = ranker.training
    ranker.eval()
    scored: Scored = []
    for share in rank_share(groups, size):
        micro = make_micro_batch(share, depth, ranker, data.dev_query_ids, data.doc_ids, device)
        scores_QK = module(micro.batch).float().cpu()
        for (group, counts), scores_K in zip(share, scores_QK, strict=True):
            if counts:
                scored.append((group.query_row, scores_K[: len(group.doc_rows_K)].tolist()))
    ranker.train(was_training)
    return scored


def dev_measures(scored: Scored, data: TrainingData, spec: EvaluationSpec) -> dict[str, float]:
    """Mean of each measure over the dev queries. All ranks call it together and get the same answer."""
    depth = _depth(spec)
    run: Run = {}
    ids, doc_ids = data.collection.splits["dev"].queries.ids, data.collection.docs.ids
    for part in ranks.gather_objects(scored):
        for row, scores in part:  # type: ignore[attr-defined]
            docs = data.dev_candidates.rows(row)[:depth].tolist()
            run[ids[row]] = {doc_ids[doc]: score for doc, score in zip(docs, scores, strict=True)}
    values = per_query(run, named_qrels(data.collection, "dev"), list(spec.measures))
    return {name: float(np.mean(list(each.values()))) for name, each in values.items()}


def _depth(spec: EvaluationSpec) -> int:
    return min(spec.dev_depth or spec.depth, spec.depth)


def _group(query_row: int, doc_rows_K: np.ndarray) -> Group:
    empty_K = np.zeros(len(doc_rows_K), dtype=np.float32)
    return Group(query_row, doc_rows_K, empty_K, empty_K)
