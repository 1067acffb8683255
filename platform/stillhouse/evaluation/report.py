"""The result of a run as plain data: rows for `results.json`, from what was measured of each system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.artifacts import atomic_file, write_json
from stillhouse.errors import CollectionError
from stillhouse.evaluation.measures import PerQuery, means
from stillhouse.evaluation.per_query import write_per_query
from stillhouse.evaluation.significance import Comparison, GapClosed, compare, gap_closed, with_holm
from stillhouse.evaluation.table import markdown

if TYPE_CHECKING:
    from stillhouse.evaluation.latency import Latency


@dataclass(frozen=True)
class SystemResult:
    """What was measured of one system on one split."""

    name: str
    split: str
    per_query: PerQuery
    latency: Latency | None = None
    note: str = ""
    """What the system is, in a few words; shown under the table."""


@dataclass(frozen=True)
class Report:
    """All systems side by side."""

    systems: list[SystemResult]
    comparisons: list[Comparison]
    """`p_holm` is corrected over all of them."""
    alpha: float
    gap: GapClosed | None = None
    gap_of: tuple[str, str, str] | None = None
    """Names of the distilled, the contrastive and the teacher system."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Anything else `results.json` should say, e.g. the depth or the times of the steps."""


def build_report(
    systems: Sequence[SystemResult],
    pairs: Sequence[tuple[str, str]],
    *,
    tested: Sequence[str] = (),
    gap: tuple[str, str, str] | None = None,
    alpha: float = 0.05,
    facts: Mapping[str, Any] | None = None,
) -> Report:
    """Compare the pairs (system, reference) on the measures `tested`, by default the first.

    Holm's correction is over all tested measures and pairs. `gap` names the distilled, the contrastive and the
    teacher system; the share of the gap is of the first tested measure. Systems of which a measure or a query is
    missing are a CollectionError.
    """
    names = [system.name for system in systems]
    if len(set(names)) < len(names) or len({system.split for system in systems}) != 1:
        raise CollectionError(f"report: expected systems of different names on one split, found {names}")
    tested = list(tested) or list(systems[0].per_query)[:1]
    values = {measure: _values_of(measure, systems) for measure in tested}
    tests = [test for measure in tested for test in compare(values[measure], pairs, alpha, measure=measure)]
    closed = None
    if gap is not None:
        missing = [name for name in gap if name not in names]
        if missing:
            raise CollectionError(f"report: no system {missing[0]} for the gap; measured: {', '.join(names)}")
        distilled, contrastive, teacher = (values[tested[0]][name] for name in gap)
        closed = gap_closed(distilled, contrastive, teacher, alpha)
    return Report(list(systems), with_holm(tests), alpha, closed, gap, dict(facts or {}))


def result_rows(report: Report) -> list[dict[str, Any]]:
    """One row per system, as `results.json` holds them; `latency_ms` is the median without cached documents."""
    return [
        {
            "ranker": system.name,
            "split": system.split,
            "note": system.note,
            "measures": means(system.per_query),
            "queries": len(next(iter(system.per_query.values()))),
            "latency_ms": system.latency.median_ms if system.latency else None,
            "latency_cached_ms": system.latency.cached_median_ms if system.latency else None,
            "latency": asdict(system.latency) if system.latency else None,
            "tests": [_test(test) for test in report.comparisons if test.a == system.name],
        }
        for system in report.systems
    ]


def write_report(report: Report, folder: Path) -> None:
    """Write `results.json`, `results.md` and `per_query.parquet` into `folder`."""
    content = {"rows": result_rows(report), "gap_closed": _gap(report), "alpha": report.alpha, **report.facts}
    write_json(folder / "results.json", finite(content))
    with atomic_file(folder / "results.md") as temporary:
        temporary.write_text(markdown(report), encoding="utf-8")
    write_per_query(folder / "per_query.parquet", report.systems)


def _values_of(measure: str, systems: Sequence[SystemResult]) -> dict[str, dict[str, float]]:
    for system in systems:
        if measure not in system.per_query:
            known = ", ".join(system.per_query)
            raise CollectionError(f"report: {system.name} has no values of {measure}; measured: {known}")
    return {system.name: system.per_query[measure] for system in systems}


def _gap(report: Report) -> dict[str, Any] | None:
    if report.gap is None or report.gap_of is None:
        return None
    return asdict(report.gap) | dict(zip(("distilled", "contrastive", "teacher"), report.gap_of, strict=True))


def _test(comparison: Comparison) -> dict[str, Any]:
    values = asdict(comparison)
    del values["a"]
    return {"against": values.pop("b"), **values}


def finite(value: Any) -> Any:
    """The same plain data with null for numbers that JSON cannot say (infinite, NaN)."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
