"""The sentences at the top: what was compared on what, who wins, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence

from stillhouse.evaluation.measures import means
from stillhouse.evaluation.report import Report, SystemResult
from stillhouse.evaluation.significance import Comparison
from stillhouse.evaluation.table import gap_line

Pair = tuple[str, str]


def order_of(results: Sequence[SystemResult], measure: str) -> list[str]:
    """Names of the systems, the best on the measure first; equals stand as given."""
    values = {one.name: means({measure: one.per_query[measure]})[measure] for one in results}
    return sorted(values, key=lambda name: -values[name])


def with_leaders(pairs: Sequence[Pair], order: Sequence[str]) -> list[Pair]:
    """The pairs, with the best two compared too: no winner is named without a test."""
    known = {frozenset(pair) for pair in pairs}
    leaders = [(order[0], order[1])] if len(order) > 1 and frozenset(order[:2]) not in known else []
    return [*pairs, *leaders]


def summarise(report: Report, ground: str) -> list[str]:
    """Sentences: what was compared, the winner with its test, and the share of the gap where there is one."""
    measure = report.comparisons[0].measure if report.comparisons else next(iter(report.systems[0].per_query))
    order = order_of(report.systems, measure)
    values = {one.name: means({measure: one.per_query[measure]})[measure] for one in report.systems}
    queries = len(report.systems[0].per_query[measure])
    count = len(report.systems)
    lines = [f"{count} ranker{'s' * (count != 1)} on the {queries} queries of {ground}, compared by {measure}."]
    if count == 1:
        return [*lines, f"{order[0]} has {values[order[0]]:.4f}; there is nothing to compare it with."]
    test = next(one for one in report.comparisons if {one.a, one.b} == set(order[:2]))
    lines.append(_winner(test, order, values, report))
    gap = gap_line(report)
    return [*lines, f"Share of the teacher's lead that distillation closes: {gap}"] if gap else lines


def _winner(test: Comparison, order: Sequence[str], values: dict[str, float], report: Report) -> str:
    best, second = order[:2]
    lead = values[best] - values[second]
    if not lead:
        return f"No winner: {best} and {second} both have {values[best]:.4f}."
    low, high = (test.ci_low, test.ci_high) if test.a == best else (-test.ci_high, -test.ci_low)
    count = len(report.comparisons)
    tested = (
        f"{100 * (1 - report.alpha):g} % interval {low:+.4f} to {high:+.4f}, paired t-test p {_p(test.p)}, "
        f"with Holm's correction over {count} comparison{'s' * (count != 1)} p {_p(test.p_holm)}, "
        f"Fisher randomisation p {_p(test.fisher_p)}"
    )
    figures = f"{best} with {values[best]:.4f} is {lead:+.4f} above {second} ({values[second]:.4f})"
    if test.p_holm < report.alpha:
        return f"Winner: {figures}; the difference is significant ({tested})."
    return f"No clear winner: {figures}, a difference that chance alone may make ({tested})."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
