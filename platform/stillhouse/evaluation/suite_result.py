"""What a suite gives: a table per measure with the average over collections, and paired tests per collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stillhouse.artifacts import atomic_file, write_json
from stillhouse.evaluation.measures import PerQuery, means
from stillhouse.evaluation.per_query import write_per_query
from stillhouse.evaluation.report import SystemResult, finite
from stillhouse.evaluation.significance import Comparison, compare, with_holm
from stillhouse.markdown import markdown_table

ALPHA = 0.05
TESTED = (
    "collection",
    "difference",
    "measure",
    "mean",
    "95 % interval",
    "p",
    "p Holm",
    "p Fisher",
    "dz",
    "w / t / l",
    "n",
)


@dataclass(frozen=True)
class CollectionResult:
    """All systems on one collection."""

    title: str
    group: str
    """Counts as one in the average."""
    collection: str
    split: str
    relevance: int
    documents: int
    queries: int
    candidates: str
    """What was re-ranked, in words."""
    values: Mapping[str, PerQuery]
    """System -> measure, by its full name here -> query id -> value."""


@dataclass(frozen=True)
class SuiteResult:
    """Systems side by side on all collections; the first system is the first stage."""

    name: str
    measures: tuple[str, ...]
    """As the suite names them; `CollectionResult.values` has as many, with the collection's level of relevance."""
    collections: tuple[CollectionResult, ...]
    comparisons: tuple[tuple[str, Comparison], ...]
    """(collection, comparison) on the first measure; Holm's correction is over all of them."""

    @property
    def systems(self) -> list[str]:
        """Names in the order of the table."""
        return list(self.collections[0].values)

    def table(self, measure: str) -> dict[str, dict[str, float]]:
        """System -> collection -> mean over its queries."""
        place = self.measures.index(measure)
        return {
            system: {one.title: list(means(one.values[system]).values())[place] for one in self.collections}
            for system in self.systems
        }

    def average(self, measure: str) -> dict[str, float]:
        """System -> mean over groups of collections, all of equal weight (as in BEIR: Thakur et al., Table 2)."""
        groups: dict[str, list[str]] = {}
        for one in self.collections:
            groups.setdefault(one.group, []).append(one.title)
        return {
            system: fmean(fmean(row[title] for title in titles) for titles in groups.values())
            for system, row in self.table(measure).items()
        }


def suite_result(name: str, measures: Sequence[str], collections: Sequence[CollectionResult]) -> SuiteResult:
    """Test every system against the first stage, and every further one against the first ranker, on each collection."""
    first_stage, *rankers = collections[0].values
    pairs = [(ranker, first_stage) for ranker in rankers] + [(other, rankers[0]) for other in rankers[1:]]
    found: list[tuple[str, Comparison]] = []
    for one in collections:
        tested = next(iter(one.values[first_stage]))
        values = {system: per_query[tested] for system, per_query in one.values.items()}
        found += [(one.title, test) for test in compare(values, pairs, ALPHA, measure=tested)]
    corrected = with_holm([test for _, test in found])
    comparisons = tuple((title, test) for (title, _), test in zip(found, corrected, strict=True))
    return SuiteResult(name, tuple(measures), tuple(collections), comparisons)


def write_suite(result: SuiteResult, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `suite.json`, `suite.md` and `per_query.parquet` (column `split` is `collection/split`)."""
    content = {
        "suite": result.name,
        "systems": result.systems,
        "measures": list(result.measures),
        "average": {measure: result.average(measure) for measure in result.measures},
        "collections": [_collection(one) for one in result.collections],
        "comparisons": [{"collection": title, **asdict(test)} for title, test in result.comparisons],
        "alpha": ALPHA,
        **facts,
    }
    write_json(folder / "suite.json", finite(content))
    with atomic_file(folder / "suite.md") as temporary:
        temporary.write_text(markdown(result), encoding="utf-8")
    systems = [
        SystemResult(system, f"{one.title}/{one.split}", per_query)
        for one in result.collections
        for system, per_query in one.values.items()
    ]
    write_per_query(folder / "per_query.parquet", systems)


def _collection(one: CollectionResult) -> dict[str, Any]:
    facts = {name: getattr(one, name) for name in ("group", "collection", "split", "relevance", "documents", "queries")}
    values = {system: means(per_query) for system, per_query in one.values.items()}
    return {"name": one.title, **facts, "candidates": one.candidates, "systems": values}


def markdown(result: SuiteResult) -> str:
    """A table per measure, the tests, and what each collection is."""
    lines = [f"# Suite {result.name}", ""]
    for measure in result.measures:
        lines += _measure_table(result, measure)
    if result.comparisons:
        rows = [[title, *_comparison(test)] for title, test in result.comparisons]
        lines += [*markdown_table(TESTED, rows, left=2), ""]
        lines += [
            "Two-sided paired t-test per collection, Fisher's randomisation test, bootstrap interval, Cohen's dz; "
            f"Holm's correction of the t-test over all {len(rows)} comparisons; * p < {ALPHA:g}.",
            "",
        ]
    header = ["collection", "reference", "split", "documents", "queries", "relevant from", "candidates"]
    facts = [_facts(one) for one in result.collections]
    return "\n".join([*lines, *markdown_table(header, facts, left=3), ""])


def _facts(one: CollectionResult) -> list[str]:
    counts = [f"{one.documents:,}", f"{one.queries:,}", str(one.relevance)]
    return [one.title, one.collection, one.split, *counts, one.candidates]


def _measure_table(result: SuiteResult, measure: str) -> list[str]:
    table, average = result.table(measure), result.average(measure)
    better = {(title, test.a) for title, test in result.comparisons if _improves(result, measure, test)}
    rows = []
    for one in result.collections:
        cells = [
            f"{table[system][one.title]:.4f}" + ("*" if (one.title, system) in better else "")
            for system in result.systems
        ]
        rows.append([one.title, *cells])
    rows.append(["average", *(f"{average[system]:.4f}" for system in result.systems)])
    marked = ["\\* above the first stage after Holm's correction (tests below).", ""] if better else []
    return [f"## {measure}", "", *markdown_table(["collection", *result.systems], rows), "", *marked]


def _improves(result: SuiteResult, measure: str, test: Comparison) -> bool:
    against_first = test.b == result.systems[0] and measure == result.measures[0]
    return against_first and test.difference > 0 and test.p_holm < ALPHA


def _comparison(test: Comparison) -> list[str]:
    return [
        f"{test.a} - {test.b}",
        test.measure,
        f"{test.difference:+.4f}",
        f"{test.ci_low:+.4f} to {test.ci_high:+.4f}",
        f"{test.p:.3g}",
        f"{test.p_holm:.3g}" + ("*" if test.p_holm < ALPHA else ""),
        f"{test.fisher_p:.3g}",
        "-" if test.effect_size is None else f"{test.effect_size:+.2f}",
        f"{test.wins} / {test.ties} / {test.losses}",
        str(test.queries),
    ]
