"""The result table as Markdown and for the console; both show the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillhouse.evaluation.measures import means

if TYPE_CHECKING:
    from rich.table import Table

    from stillhouse.evaluation.report import Report, SystemResult
    from stillhouse.evaluation.significance import Comparison


def markdown(report: Report) -> str:
    """The table with its legend, as GitHub shows it."""
    header, rows = cells(report)
    lines = [_row(header), _row(["---"] + ["---:"] * (len(header) - 1)), *(_row(row) for row in rows)]
    return "\n".join([*lines, "", *(f"{line}  " for line in legend(report))]) + "\n"


def console_table(report: Report) -> Table:
    """The table for `rich.print`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    header, rows = cells(report)
    title = f"{report.systems[0].split}: {_queries(report.systems[0])} queries"
    # Made for 80 columns: p stands below its difference, and only the names of the rankers break, between words.
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    longest = max(len(word) for row in rows for word in row[0].split())
    table.add_column(header[0], min_width=longest)
    for name in header[1:]:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell.replace(" (", "\n(") for cell in row))
    return table


def cells(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: measures, latency, and one column per reference system."""
    measures = list(report.systems[0].per_query)
    tests = {(test.a, test.b, test.measure): test for test in report.comparisons}
    references = [
        (system.name, measure)
        for measure in dict.fromkeys(test.measure for test in report.comparisons)
        for system in report.systems
        if any(test.b == system.name and test.measure == measure for test in report.comparisons)
    ]
    several = len({measure for _, measure in references}) > 1
    headings = [f"{measure} vs {name}" if several else f"vs {name}" for name, measure in references]
    header = ["ranker", *measures, "ms", "ms cached", *headings]
    rows = []
    for system in report.systems:
        values = means(system.per_query)
        latency = system.latency
        rows.append(
            [
                system.name,
                *(f"{values[measure]:.4f}" if measure in values else "-" for measure in measures),
                _ms(latency.median_ms if latency else None),
                _ms(latency.cached_median_ms if latency else None),
                *(_test(tests.get((system.name, name, measure)), report.alpha) for name, measure in references),
            ]
        )
    return header, rows


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
        measures = ", ".join(dict.fromkeys(test.measure for test in report.comparisons))
        count = len(report.comparisons)
        lines.append(
            f"vs: difference in {measures} over {report.comparisons[0].queries} queries "
            f"(p of the two-sided paired t-test, Holm-corrected over {count} "
            f"comparison{'s' * (count != 1)}); * p < {report.alpha:g}."
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


def _test(comparison: Comparison | None, alpha: float) -> str:
    if comparison is None:
        return ""
    p = "<0.001" if comparison.p_holm < 0.001 else f"{comparison.p_holm:.3f}"
    return f"{comparison.difference:+.4f} ({p}){'*' if comparison.p_holm < alpha else ''}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _queries(system: SystemResult) -> int:
    return len(next(iter(system.per_query.values())))


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
