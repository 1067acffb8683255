"""Evaluation inside training: candidates re-ranked by the ranker as it is, spread over the ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from stillhouse.candidates import Candidates
from stillhouse.collection.tokens import Rows
from stillhouse.evaluation.measures import PerQuery, named_qrels, per_query
from stillhouse.evaluation.rerank import PAIRS_PER_SEPARABLE_CHUNK, chunks, score_chunk
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import budget_of
from stillhouse.recipe.tree import EvaluationSpec
from stillhouse.records import Group, Run
from stillhouse.training import ranks
from stillhouse.training.batches import make_micro_batch, rank_share
from stillhouse.training.groups import epoch_order
from stillhouse.training.job import TrainingData

QUERIES_PER_FORWARD = 16

Scored = list[tuple[int, list[float]]]
"""Query rows and the scores of their candidates, in order."""


@dataclass(frozen=True)
class Part:
    """Queries of one split that are measured together."""

    split: str
    candidates: Candidates
    query_ids: Rows
    query_rows: tuple[int, ...]


def dev_part(data: TrainingData) -> Part:
    """All dev queries."""
    rows = range(len(data.collection.splits["dev"].queries))
    return Part("dev", data.dev_candidates, data.dev_query_ids, tuple(rows))


def train_part(data: TrainingData, count: int, seed: int) -> Part:
    """A sample of the train queries that have a positive; a smaller count is a subset of a larger one."""
    labelled = [
        row for row, grades in data.collection.splits["train"].qrels.items() if any(g > 0 for g in grades.values())
    ]
    return sample(Part("train", data.train_candidates, data.train_query_ids, tuple(labelled)), data, count, seed)


def sample(part: Part, data: TrainingData, count: int, seed: int) -> Part:
    """`count` queries of a part; a smaller count is a subset of a larger one."""
    ids = data.collection.splits[part.split].queries.ids
    order = epoch_order([ids[row] for row in part.query_rows], seed, -1)
    return replace(part, query_rows=tuple(sorted(part.query_rows[place] for place in order[:count])))


def documents_once(ranker: Ranker, data: TrainingData, part: Part, spec: EvaluationSpec, size: int) -> Scored:
    """This rank's share of the queries as `rerank` scores them: a document that several have is encoded once.

    For separable rankers of which every rank holds the whole. Where memory was short and `size` was halved, so are a
    forward and what is kept of a chunk.
    """
    budget = max(1, budget_of(ranker.device) * size // QUERIES_PER_FORWARD)
    limit = max(1, PAIRS_PER_SEPARABLE_CHUNK * size // QUERIES_PER_FORWARD)
    mine = part.query_rows[ranks.rank() :: ranks.world_size()]
    scored: Scored = []
    for chunk in chunks(part.candidates, mine, _depth(spec), limit):
        scores = score_chunk(ranker, part.query_ids, data.doc_ids, chunk, token_budget=budget)
        scored += [(row, scores_K.tolist()) for (row, _), scores_K in zip(chunk, scores, strict=True) if len(scores_K)]
    return scored


@torch.no_grad()
def equal_forwards(
    ranker: Ranker,
    module: nn.Module,
    data: TrainingData,
    part: Part,
    spec: EvaluationSpec,
    device: torch.device,
    size: int,
) -> Scored:
    """This rank's share of the queries, `size` in a forward. Ranks exchange nothing but what FSDP2 does.

    Every rank makes as many forwards, as ranks must that hold parts of the weights.
    """
    depth = _depth(spec)
    groups = [_group(row, part.candidates.rows(row)[:depth]) for row in part.query_rows]
    groups = [group for group in groups if len(group.doc_rows_K)]
    was_training = ranker.training
    ranker.eval()
    scored: Scored = []
    for share in rank_share(groups, size):
        micro = make_micro_batch(share, depth, ranker, part.query_ids, data.doc_ids, device)
        scores_QK = module(micro.batch).float().cpu()
        for (group, counts), scores_K in zip(share, scores_QK, strict=True):
            if counts:
                scored.append((group.query_row, scores_K[: len(group.doc_rows_K)].tolist()))
    ranker.train(was_training)
    return scored


def part_run(scored: Scored, data: TrainingData, part: Part, spec: EvaluationSpec) -> Run:
    """The scores of all ranks by ids. All ranks call it together and get the same answer."""
    depth = _depth(spec)
    run: Run = {}
    ids, doc_ids = data.collection.splits[part.split].queries.ids, data.collection.docs.ids
    for each in ranks.gather_objects(scored):
        for row, scores in each:  # type: ignore[attr-defined]
            run[ids[row]] = dict(zip(doc_ids.of(part.candidates.rows(row)[:depth]), scores, strict=True))
    return run


def part_values(run: Run, data: TrainingData, part: Part, spec: EvaluationSpec) -> PerQuery:
    """Each measure of each query of a part that has judgements; those without candidates count 0."""
    qrels = named_qrels(data.collection, part.split, part.query_rows)
    return per_query(run, qrels, list(spec.measures))


def means(values: PerQuery) -> dict[str, float]:
    """The mean of each measure over its queries."""
    return {name: float(np.mean(list(each.values()))) for name, each in values.items()}


def _depth(spec: EvaluationSpec) -> int:
    return min(spec.dev_depth or spec.depth, spec.depth)


def _group(query_row: int, doc_rows_K: np.ndarray) -> Group:
    empty_K = np.zeros(len(doc_rows_K), dtype=np.float32)
    return Group(query_row, doc_rows_K, empty_K, empty_K)
