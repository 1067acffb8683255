"""The result table as Markdown and for the console; both show the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.evaluation.measures import means
from stillhouse.markdown import markdown_table

if TYPE_CHECKING:
    from rich.table import Table

    from stillhouse.evaluation.report import Report, SystemResult


def markdown(report: Report) -> str:
    """The table of systems, the table of comparisons and the legend, as GitHub shows them."""
    lines: list[str] = []
    for header, rows in (cells(report), comparison_cells(report)):
        if rows:
            lines += [*markdown_table(header, rows), ""]
    return "\n".join([*lines, *(f"{line}  " for line in legend(report))]) + "\n"


def console_tables(report: Report) -> list[Table]:
    """The same tables for the console."""
    from rich.table import Table

    titles = (f"{report.systems[0].split}: {_queries(report.systems[0])} queries", "Paired comparisons")
    tables = []
    for title, (header, rows) in zip(titles, (cells(report), comparison_cells(report)), strict=True):
        if not rows:
            continue
        table = Table(title=title)
        for index, name in enumerate(header):
            table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def cells(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of systems: measures and latency."""
    measures = list(report.systems[0].per_query)
    rows = []
    for system in report.systems:
        values, latency = means(system.per_query), system.latency
        times = (latency.median_ms, latency.cached_median_ms) if latency else (None, None)
        rows.append(
            [
                system.name,
                *(f"{values[measure]:.4f}" if measure in values else "-" for measure in measures),
                *map(_ms, times),
            ]
        )
    return ["ranker", *measures, "ms", "ms cached"], rows


def comparison_cells(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of comparisons: difference with its interval, p before and after correction."""
    rows = [
        [
            f"{test.a} - {test.b}",
            test.measure,
            f"{test.difference:+.4f}",
            f"{test.ci_low:+.4f} to {test.ci_high:+.4f}",
            _p(test.p),
            _p(test.p_holm) + ("*" if test.p_holm < report.alpha else ""),
            f"{test.wins} / {test.ties} / {test.losses}",
        ]
        for test in report.comparisons
    ]
    level = f"{100 * (1 - report.alpha):g} % interval"
    return ["difference", "measure", "mean", level, "p", "p Holm", "wins / ties / losses"], rows


def legend(report: Report) -> list[str]:
    """What the columns mean, the share of the gap, and what each system is: one sentence a line."""
    lines = []
    timed = [system.latency for system in report.systems if system.latency]
    if timed:
        first = timed[0]
        lines.append(
            f"ms: median for 1 query x {first.documents} documents from token ids to scores, warm, "
            f"{first.device}, {first.threads} thread{'s' * (first.threads != 1)}; cached: document representations "
            "computed before."
        )
    if report.comparisons:
        count = len(report.comparisons)
        lines.append(
            f"Comparisons: {report.comparisons[0].queries} queries, two-sided paired t-test, bootstrap interval; "
            f"Holm's correction over {count} comparison{'s' * (count != 1)}; * p < {report.alpha:g}."
        )
    if report.gap is not None:
        lines.append(gap_line(report))
    lines += [f"{system.name}: {system.note}." for system in report.systems if system.note]
    return lines


def gap_line(report: Report) -> str:
    """The share of the teacher's lead that distillation closes, in one sentence."""
    if report.gap is None or report.gap_of is None:
        return ""
    distilled, contrastive, teacher = report.gap_of
    ratio = f"({distilled} - {contrastive}) / ({teacher} - {contrastive})"
    if report.gap.ratio is None:
        return f"{ratio}: none; {report.gap.reason}."
    if report.gap.ci_low is None or report.gap.ci_high is None:
        return f"{ratio} = {report.gap.ratio:.2f}, no interval: {report.gap.reason}."
    level = f"{100 * (1 - report.alpha):g} %"
    return f"{ratio} = {report.gap.ratio:.2f}, {level} interval {report.gap.ci_low:.2f} to {report.gap.ci_high:.2f}."


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _queries(system: SystemResult) -> int:
    return len(next(iter(system.per_query.values())))
