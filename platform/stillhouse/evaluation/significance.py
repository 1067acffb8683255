"""Is one ranker better than another? Paired tests over queries, corrected for the number of comparisons shown."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from stillhouse.errors import CollectionError

Values = Mapping[str, float]
"""query_id -> value of one measure."""


@dataclass(frozen=True)
class Comparison:
    """System `a` against system `b` on one measure; a positive difference says that `a` is better."""

    a: str
    b: str
    measure: str
    mean_a: float
    mean_b: float
    difference: float
    """Mean over queries of a - b."""
    t: float
    p: float
    """Two-sided paired t-test."""
    p_holm: float
    """`p` after Holm's correction over all comparisons shown together."""
    ci_low: float
    ci_high: float
    """Percentile bootstrap interval of the difference over queries, at level 1 - alpha."""
    fisher_p: float
    """Two-sided Fisher randomisation test."""
    effect_size: float | None
    """Cohen's dz: mean of the differences / their standard deviation; None where they do not vary."""
    wins: int
    ties: int
    losses: int
    """Queries where `a` is above, equal to or below `b`."""
    queries: int


@dataclass(frozen=True)
class GapClosed:
    """(distilled - contrastive) / (teacher - contrastive): 0 no better than labels alone, 1 as good as the teacher."""

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    reason: str
    """Why the ratio or its interval is None; empty otherwise."""
    queries: int


def compare(
    per_query: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    alpha: float = 0.05,
    *,
    measure: str = "",
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare pairs of systems on one measure: system -> query_id -> value.

    Holm's correction is over the pairs given; `with_holm` repeats it over comparisons of several measures.
    """
    return with_holm([_compare(per_query, a, b, alpha, measure, resamples, seed) for a, b in pairs])


def with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with `p_holm` corrected over all of them."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the i-th smallest of m times (m - i + 1), never below an earlier one."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        corrected[index] = highest
    return corrected


def gap_closed(
    distilled: Values,
    contrastive: Values,
    teacher: Values,
    alpha: float = 0.05,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> GapClosed:
    """How much of the teacher's lead over a contrastive student distillation closes, on the means over queries.

    The interval is a percentile bootstrap over queries. It exists only where the teacher's lead itself is clear of 0
    (as in Fieller's theorem for a ratio of means); otherwise it is unbounded and None is given, with the reason.
    """
    values = _aligned({"distilled": distilled, "contrastive": contrastive, "teacher": teacher})
    gain_Q = values["distilled"] - values["contrastive"]
    lead_Q = values["teacher"] - values["contrastive"]
    queries = len(gain_Q)
    lead = float(lead_Q.mean())
    if lead <= 0:
        return GapClosed(None, None, None, f"the teacher does not lead the contrastive student ({lead:+.4f})", queries)
    ratio = float(gain_Q.mean()) / lead
    gain_R, lead_R = _resampled_means(np.stack([gain_Q, lead_Q]), resamples, seed)
    share = float((lead_R <= 0).mean())
    if share > alpha / 2:
        reason = (
            f"the teacher's lead over the contrastive student ({lead:+.4f}) is not clear of 0: "
            f"{share:.1%} of resamples have none, so the interval is unbounded"
        )
        return GapClosed(ratio, None, None, reason, queries)
    # A resample without a lead stands at the far end of the side its gain points to.
    ratio_R = np.where(gain_R < 0, -np.inf, np.inf)
    np.divide(gain_R, lead_R, out=ratio_R, where=lead_R > 0)
    # "lower" and "higher" interpolate nothing, so that an infinite resample cannot leak inwards.
    low = float(np.quantile(ratio_R, alpha / 2, method="higher"))
    high = float(np.quantile(ratio_R, 1 - alpha / 2, method="lower"))
    return GapClosed(ratio, low, high, "", queries)


def _resampled_means(values_SQ: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means [S, R] of S paired series over R resamples of the queries; 100 at a time bounds the memory."""
    rng = np.random.default_rng(seed)
    queries = values_SQ.shape[1]
    starts = range(0, resamples, 100)
    sizes = [(min(100, resamples - start), queries) for start in starts]
    return np.concatenate([values_SQ[:, rng.integers(0, queries, size)].mean(axis=-1) for size in sizes], axis=1)


def _compare(
    per_query: Mapping[str, Values], a: str, b: str, alpha: float, measure: str, resamples: int, seed: int
) -> Comparison:
    missing = [name for name in (a, b) if name not in per_query]
    if missing:
        raise CollectionError(f"comparison {a} with {b}: no values of {missing[0]}; known: {', '.join(per_query)}")
    values = _aligned({a: per_query[a], b: per_query[b]})
    difference_Q = values[a] - values[b]
    t, p = _t_test(difference_Q)
    low, high = _interval(difference_Q, alpha, resamples, seed)
    spread = float(difference_Q.std(ddof=1)) if len(difference_Q) > 1 else 0.0
    return Comparison(
        a=a,
        b=b,
        measure=measure,
        mean_a=float(values[a].mean()),
        mean_b=float(values[b].mean()),
        difference=float(difference_Q.mean()),
        t=t,
        p=p,
        p_holm=p,
        ci_low=low,
        ci_high=high,
        fisher_p=_fisher(difference_Q, resamples, seed),
        effect_size=float(difference_Q.mean()) / spread if spread > 0 else None,
        wins=int((difference_Q > 0).sum()),
        ties=int((difference_Q == 0).sum()),
        losses=int((difference_Q < 0).sum()),
        queries=len(difference_Q),
    )


def _aligned(systems: Mapping[str, Values]) -> dict[str, np.ndarray]:
    """Values in one order of queries; the systems must have been measured on the same ones."""
    first, *others = systems
    queries = list(systems[first])
    if not queries:
        raise CollectionError(f"comparison: {first} has no query, so there is nothing to compare")
    for other in others:
        odd = systems[first].keys() ^ systems[other].keys()
        if odd:
            raise CollectionError(
                f"comparison {first} with {other}: {len(odd)} queries have a value in only one of them "
                f"(e.g. {min(odd)}); measure both on the same qrels"
            )
    return {name: np.array([values[query] for query in queries], dtype=np.float64) for name, values in systems.items()}


def _t_test(difference_Q: np.ndarray) -> tuple[float, float]:
    """t and two-sided p; (0, 1) where nothing differs, or where one query alone is no evidence."""
    if len(difference_Q) < 2 or not difference_Q.any():
        return 0.0, 1.0
    with warnings.catch_warnings():
        # Equal differences throughout: t is infinite and p is 0, which scipy says with a warning.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.ttest_1samp(difference_Q, 0.0)
    return float(result.statistic), float(result.pvalue)


def _interval(difference_Q: np.ndarray, alpha: float, resamples: int, seed: int) -> tuple[float, float]:
    if len(difference_Q) < 2:
        return -np.inf, np.inf
    result = stats.bootstrap(
        (difference_Q,),
        np.mean,
        method="percentile",
        confidence_level=1 - alpha,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
        batch=1000,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _fisher(difference_Q: np.ndarray, resamples: int, seed: int) -> float:
    """Share of random sign flips whose mean is as far from 0; all flips where there are few queries."""
    # Queries without a difference say nothing and would only add flips that change nothing.
    moved = difference_Q[difference_Q != 0]
    if len(moved) < 2:  # a single difference is as far from 0 under both signs
        return 1.0
    result = stats.permutation_test(
        (moved,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
        batch=1000,
    )
    return float(result.pvalue)
