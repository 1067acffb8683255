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


@torch.no_grad()
def dev_measures(
    ranker: Ranker, module: nn.Module, data: TrainingData, spec: EvaluationSpec, device: torch.device
) -> dict[str, float]:
    """Mean of each measure over the dev queries. All ranks call it together and get the same answer."""
    split = data.collection.splits["dev"]
    depth = min(spec.dev_depth or spec.depth, spec.depth)
    groups = [_group(row, data.dev_candidates.rows(row)[:depth]) for row in range(len(split.queries))]
    groups = [group for group in groups if len(group.doc_rows_K)]
    was_training = ranker.training
    ranker.eval()
    scored: list[tuple[int, list[float]]] = []
    for share in rank_share(groups, QUERIES_PER_FORWARD):
        micro = make_micro_batch(share, depth, ranker, data.dev_query_ids, data.doc_ids, device)
        scores_QK = module(micro.batch).float().cpu()
        for (group, counts), scores_K in zip(share, scores_QK, strict=True):
            if counts:
                scored.append((group.query_row, scores_K[: len(group.doc_rows_K)].tolist()))
    ranker.train(was_training)
    run: Run = {}
    ids, doc_ids = split.queries.ids, data.collection.docs.ids
    for part in ranks.gather_objects(scored):
        for row, scores in part:  # type: ignore[attr-defined]
            docs = data.dev_candidates.rows(row)[:depth].tolist()
            run[ids[row]] = {doc_ids[doc]: score for doc, score in zip(docs, scores, strict=True)}
    values = per_query(run, named_qrels(data.collection, "dev"), list(spec.measures))
    return {name: float(np.mean(list(each.values()))) for name, each in values.items()}


def _group(query_row: int, doc_rows_K: np.ndarray) -> Group:
    empty_K = np.zeros(len(doc_rows_K), dtype=np.float32)
    return Group(query_row, doc_rows_K, empty_K, empty_K)
