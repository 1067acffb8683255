"""The costs of several rankers side by side: JSON, Markdown, and effectiveness over latency as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.artifacts import atomic_file, write_json
from stillhouse.evaluation.cost import Cost
from stillhouse.evaluation.figures import effectiveness_latency
from stillhouse.evaluation.report import finite
from stillhouse.markdown import markdown_table


@dataclass(frozen=True)
class CostTable:
    """Rows of rankers, all timed alike."""

    costs: Mapping[str, Cost]
    """By the name of the row."""
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Row -> measure -> mean; also of `first stage`. Empty where no collection was given."""
    collection: str = ""
    """What was re-ranked, in words."""
    processor: str = ""


def write_costs(table: CostTable, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write `cost.json`, `cost.md` and, with measures, `cost.png`."""
    rows = [{"name": name, **asdict(one), "measures": table.measures.get(name)} for name, one in table.costs.items()]
    content = {"rows": rows, "measures": table.measures, "collection": table.collection, "processor": table.processor}
    write_json(folder / "cost.json", finite(content | dict(facts or {})))
    with atomic_file(folder / "cost.md") as temporary:
        temporary.write_text(markdown(table), encoding="utf-8")
    points = latency_points(table)
    if points:
        effectiveness_latency(points, folder / "cost.png", next(iter(next(iter(table.measures.values())))))


def latency_points(table: CostTable) -> list[tuple[str, float, float]]:
    """(name, ms, value of the first measure): as the ranker serves best, with kept documents where it can keep them."""
    points = []
    for name, one in table.costs.items():
        if name in table.measures:
            cached = one.latency.cached_median_ms
            value = next(iter(table.measures[name].values()))
            label = name if cached is None else f"{name} (documents kept)"
            points.append((label, one.latency.median_ms if cached is None else cached, value))
    return points


def markdown(table: CostTable) -> str:
    """The table and what it means."""
    names = list(next(iter(table.measures.values()), {}))
    header = ["ranker", "architecture", "parameters", *names, "ms", "p95", "ms kept", "p95 kept"]
    header += ["peak MB", "of it loaded", "bytes a document", "search"]
    rows = [
        [name, "", "", *(f"{values[one]:.4f}" for one in names)] + [""] * 8
        for name, values in table.measures.items()
        if name not in table.costs
    ]
    rows += [_cells(name, one, table.measures.get(name), names) for name, one in table.costs.items()]
    return "\n".join([*markdown_table(header, rows, left=2, last=1), "", *_legend(table)]) + "\n"


def _cells(name: str, one: Cost, values: Mapping[str, float] | None, names: Sequence[str]) -> list[str]:
    times = one.latency
    return [
        name,
        one.ranker,
        f"{one.parameters:,}",
        *(f"{values[measure]:.4f}" if values else "" for measure in names),
        *map(_ms, (times.median_ms, times.p95_ms, times.cached_median_ms, times.cached_p95_ms)),
        f"{one.peak_memory_bytes / 2**20:,.0f}",
        f"{one.loaded_memory_bytes / 2**20:,.0f}",
        "-" if one.storage_bytes is None else f"{one.storage_bytes:,.0f}",
        "yes" if one.searchable else "no",
    ]


def _legend(table: CostTable) -> list[str]:
    first = next(iter(table.costs.values()))
    times = first.latency
    lengths = ", ".join(f"{name} {one.query_tokens} and {one.doc_tokens:.0f}" for name, one in table.costs.items())
    lines = [
        f"One query x {times.documents:,} documents from token ids to scores, warm, {times.device}"
        f"{f' ({table.processor})' if table.processor else ''}, {times.threads} thread{'s' * (times.threads != 1)}, "
        f"{first.dtype}; median and 95th percentile. Kept: the documents' representations are there.",
        f"Tokens of the query and mean of the documents: {lengths}.",
        "Peak MB: resident memory of a process that does this, libraries included; on a GPU what torch held there.",
        "Bytes a document: its representation without padding; search: whether it can be found without candidates.",
    ]
    return lines + ([f"Measures: {table.collection}."] if table.collection else [])


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
