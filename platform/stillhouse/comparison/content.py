"""All that the report says, as plain data: the page and the Markdown show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from stillhouse.comparison import charts
from stillhouse.comparison.entrants import Curves, Entrant, Ground, Section
from stillhouse.comparison.examples import Example, examples
from stillhouse.comparison.summary import Pair, order_of, summarise, with_leaders
from stillhouse.errors import CollectionError
from stillhouse.evaluation.coverage import coverage
from stillhouse.evaluation.diagnostics import score_spread
from stillhouse.evaluation.measures import per_query
from stillhouse.evaluation.report import Report, SystemResult, build_report
from stillhouse.evaluation.table import cells, gap_line, legend

MOST_EXAMPLE_PAIRS = 3


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows; `key` names its file."""

    key: str
    title: str
    caption: str
    drawing: Element


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Content:
    """The report."""

    title: str
    summary: Sequence[str]
    notes: Sequence[str]
    """What to know before believing a number: queries without results, say."""
    systems: Table
    comparisons: Table
    legend: Sequence[str]
    pictures: Sequence[Picture]
    examples: Sequence[tuple[str, str, Sequence[Example]]]
    """Names of two rankers, and the queries on which they differ most."""
    sections: Sequence[Section]
    report: Report


def build_content(
    title: str,
    ground: Ground,
    entrants: Sequence[Entrant],
    *,
    measures: Sequence[str],
    pairs: Sequence[Pair] = (),
    gap: tuple[str, str, str] | None = None,
    curves: Mapping[str, Curves] | None = None,
    sections: Sequence[Section] = (),
    alpha: float = 0.05,
) -> Content:
    """Measure the entrants on the ground, test the pairs and the two best on the first measure, draw the pictures.

    The first measure decides; the others are shown. Holm's correction is over all pairs shown.
    """
    if not entrants:
        raise CollectionError("report: nothing to compare; give runs, run files or models")
    results, notes = [], []
    for entrant in entrants:
        covered = coverage(entrant.run, ground.qrels, ground.collection.docs.row_of)
        notes += [f"{entrant.name}: {warning}." for warning in covered.warnings()]
        values = per_query(entrant.run, ground.qrels, measures)
        results.append(SystemResult(entrant.name, ground.split, values, entrant.latency, entrant.note))
    shown = with_leaders(pairs, order_of(results, measures[0]))
    report = build_report(results, shown, gap=gap, alpha=alpha)
    header, rows = cells(report)
    chosen = _example_pairs(shown, gap)
    return Content(
        title,
        summarise(report, ground.name),
        notes,
        Table(header, rows),
        _comparisons(report),
        # The share of the gap stands in the summary.
        [line for line in legend(report) if line != gap_line(report)],
        _pictures(ground, entrants, report, curves or {}, measures),
        [(a, b, examples(ground, _named(entrants, a), _named(entrants, b), results)) for a, b in chosen],
        sections,
        report,
    )


def _named(entrants: Sequence[Entrant], name: str) -> Entrant:
    return next(entrant for entrant in entrants if entrant.name == name)


def _example_pairs(pairs: Sequence[Pair], gap: tuple[str, str, str] | None) -> list[Pair]:
    """What distillation gained over the contrastive student and lacks of the teacher, then the pairs as they stand."""
    first = [(gap[0], gap[1]), (gap[0], gap[2])] if gap else []
    return list(dict.fromkeys([*first, *pairs]))[:MOST_EXAMPLE_PAIRS]


def _comparisons(report: Report) -> Table:
    level = f"{100 * (1 - report.alpha):g} % interval"
    header = ["pair", "difference", level, "p t-test", "p Holm", "p Fisher", "effect dz", "win/tie/loss", "queries"]
    rows = [
        [
            f"{test.a} \N{MINUS SIGN} {test.b}",
            f"{test.difference:+.4f}",
            f"{test.ci_low:+.4f} to {test.ci_high:+.4f}",
            _p(test.p),
            _p(test.p_holm) + (" *" if test.p_holm < report.alpha else ""),
            _p(test.fisher_p),
            "-" if test.effect_size is None else f"{test.effect_size:+.2f}",
            f"{test.wins} / {test.ties} / {test.losses}",
            f"{test.queries}",
        ]
        for test in report.comparisons
    ]
    return Table(header, rows)


def _pictures(
    ground: Ground,
    entrants: Sequence[Entrant],
    report: Report,
    curves: Mapping[str, Curves],
    measures: Sequence[str],
) -> list[Picture]:
    return [
        *_latency_picture(report, measures[0]),
        *_score_pictures(ground, entrants),
        *_curve_pictures(curves, measures[0]),
    ]


def _latency_picture(report: Report, measure: str) -> list[Picture]:
    by_name = {row[0]: row for row in cells(report)[1]}
    column = 1 + list(report.systems[0].per_query).index(measure)
    points = [
        (one.name, one.latency.median_ms, one.latency.cached_median_ms, float(by_name[one.name][column]))
        for one in report.systems
        if one.latency
    ]
    if not points:
        return []
    without = [one.name for one in report.systems if not one.latency]
    caption = "Up and to the left is better." + (f" Not timed: {', '.join(without)}." if without else "")
    return [Picture("latency", "Effectiveness and latency", caption, charts.effectiveness_latency(points, measure))]


def _score_pictures(ground: Ground, entrants: Sequence[Entrant]) -> list[Picture]:
    spreads = [score_spread(entrant.name, entrant.run, ground.qrels) for entrant in entrants]
    if not any(len(spread.positives) for spread in spreads):
        return []
    pictures = []
    if any(len(spread.margins) for spread in spreads):
        caption = (
            "Score of a relevant document less that of another document of the same query, over the largest range "
            "of scores in a query; right of 0 the pair is in the right order."
        )
        pictures.append(Picture("margins", "Margins", caption, charts.margins(spreads)))
    return [
        *pictures,
        Picture(
            "scores-centred",
            "Scores of relevant documents and of others, centred",
            "Each ranker's mean score is taken off and its standard deviation is the unit: one axis for all. "
            "The further apart the two shapes, the better relevant documents are told from others. The first and the "
            "last bar hold what lies beyond.",
            charts.histograms(spreads, centred=True),
        ),
        Picture(
            "scores",
            "Scores as they are",
            "Every ranker on an axis of its own; the first and the last bar hold what lies beyond.",
            charts.histograms(spreads, centred=False),
        ),
    ]


def _curve_pictures(curves: Mapping[str, Curves], measure: str) -> list[Picture]:
    pictures = []
    dev = {name: one.dev[measure] for name, one in curves.items() if one.dev.get(measure)}
    if dev:
        drawing = charts.lines(dev, "step", f"{measure} on dev", f"{measure} on dev over training")
        pictures.append(Picture("dev", f"{measure} on dev over training", "One line for each training.", drawing))
    for index, (name, one) in enumerate(curves.items()):
        if one.loss:
            drawing = charts.lines({name: one.loss}, "step", "loss", f"Loss of {name}", height=130, markers=False)
            # Losses are of different kinds and sizes: one axis would hide all but the largest.
            caption = "Every training on an axis of its own, as losses are of different kinds." if not index else ""
            pictures.append(Picture(f"loss-{index}", f"Loss of {name}", caption, drawing))
    return pictures


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
