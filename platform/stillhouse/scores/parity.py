"""A few pairs scored twice before many are scored once: as the job scores them, and in this process in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray

from stillhouse.errors import StoreError
from stillhouse.scores.actor import NoScoreError, ShardScorer, score_shard
from stillhouse.scores.placement import Placement
from stillhouse.scores.plan import Plan

TOLERANCE = 0.1
"""Largest difference that passes, in standard deviations of the float32 scores."""


@dataclass(frozen=True)
class Parity:
    """How far the job's scores are from those of float32 on a CPU."""

    pairs: int
    max_difference: float
    """In units of the scores."""
    spread: float
    """Standard deviation of the float32 scores."""
    rank_correlation: float
    """Spearman's, within a query, mean over the queries that have two pairs; NaN without one."""

    @property
    def relative_difference(self) -> float:
        if not self.max_difference:
            return 0.0
        return self.max_difference / self.spread if self.spread else float("inf")

    def facts(self) -> dict[str, Any]:
        return {name: round(value, 6) for name, value in asdict(self).items() if value == value}

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs: largest difference {self.max_difference:.4g} "
            f"({self.relative_difference:.1%} of the scores' standard deviation), "
            f"rank correlation {self.rank_correlation:.4f}"
        )


def check_parity(
    plan: Plan, pairs: int, arguments: dict[str, Any], placement: Placement, tolerance: float = TOLERANCE
) -> Parity:
    """Score the first pairs of the plan as a job's actor does, and in float32 on this CPU; compare.

    `arguments` are those of the job's actors. Raises StoreError beyond the tolerance, with what to do.
    """
    rows = plan.first(pairs)
    plain = _scores(arguments | {"dtype": "float32", "device": "cpu"}, *rows)
    score: Callable[..., np.ndarray] = _scores
    if placement.actors:
        remote = ray.remote(num_cpus=placement.num_cpus, num_gpus=placement.num_gpus)(_scores)
        score = lambda *given: np.asarray(ray.get(remote.remote(*given)))  # noqa: E731
    try:
        job = score(arguments, *rows)
    except ray.exceptions.RayTaskError as error:
        raise StoreError(f"parity check: {error.cause}") from None
    parity = compare(rows[0], plain, job)
    if not parity.relative_difference <= tolerance:
        raise StoreError(
            f"parity check: {arguments['dtype']} on {arguments['device']} is too far from float32 on a CPU: {parity}; "
            f"{tolerance:.0%} passes: set store.dtype to float32, or raise store.parity_tolerance"
        )
    return parity


def compare(query_rows_P: np.ndarray, plain_P: np.ndarray, job_P: np.ndarray) -> Parity:
    """The two scores of each pair, compared."""
    plain_P, job_P = plain_P.astype(np.float64), job_P.astype(np.float64)
    correlations = []
    for query in np.unique(query_rows_P):
        here = query_rows_P == query
        plain_ranks, job_ranks = _ranks(plain_P[here]), _ranks(job_P[here])
        if np.ptp(plain_ranks) > 0 and np.ptp(job_ranks) > 0:
            correlations.append(float(np.corrcoef(plain_ranks, job_ranks)[0, 1]))
    return Parity(
        pairs=len(plain_P),
        max_difference=float(np.abs(plain_P - job_P).max()),
        spread=float(plain_P.std()),
        rank_correlation=float(np.mean(correlations)) if correlations else float("nan"),
    )


def _scores(arguments: dict[str, Any], query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> np.ndarray:
    scorer = ShardScorer(**arguments)
    if scorer.failure:
        raise StoreError(scorer.failure)
    try:
        table = score_shard(
            scorer.ranker, scorer.queries, scorer.docs, query_rows_P, doc_rows_P, token_budget=scorer.token_budget
        )
    except NoScoreError as error:
        raise StoreError(f"parity check: {error}") from None
    return np.asarray(table["score"].to_numpy())


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
