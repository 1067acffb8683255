"""The comparison report: of anything (`stillhouse report`), and of a run as its last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from stillhouse.comparison import Content, Ground, build_content, write_page
from stillhouse.comparison.finished import curves_in, entrants_of, open_finished, sections_of
from stillhouse.comparison.sources import Asked, gather
from stillhouse.evaluation.measures import named_qrels
from stillhouse.evaluation.table import console_tables
from stillhouse.pipeline.context import Context, workspace
from stillhouse.pipeline.models import Model

PAGE = "report.html"


def report(runs: Sequence[str], asked: Asked, output: Path, *, console: Console) -> Content:
    """Write the page of what is named to `output`, its Markdown beside it, and print table and summary."""

    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, style="dim")

    found = gather(runs, asked, workspace(), note)
    content = build_content(
        found.title,
        found.ground,
        found.entrants,
        measures=found.measures,
        pairs=found.pairs,
        gap=found.gap,
        curves=found.curves,
        sections=found.sections,
    )
    page, markdown, _ = write_page(content, output)
    for table in console_tables(content.report):
        console.print(table)
    for line in (*content.summary, *(f"Note: {text}" for text in content.notes), *content.legend):
        console.print(line, highlight=False, markup=False)
    console.print(f"The report is {page}, as Markdown {markdown}.", highlight=False, markup=False)
    return content


def write_run_report(context: Context, trainings: Mapping[str, Model]) -> None:
    """`report.html` of the run whose results lie in the output folder; `trainings` are what was trained in it."""
    finished = open_finished(context.output)
    ground = Ground(context.collection, "test", named_qrels(context.collection, "test"), context.recipe.collection.test)
    entrants = entrants_of(finished)
    curves = {name: curves_in(model.path) for name, model in trainings.items()}
    names = [entrant.name for entrant in entrants]
    content = build_content(
        f"Run {context.recipe.name}",
        ground,
        entrants,
        measures=finished.measures,
        pairs=[(finished.main, name) for name in names if name != finished.main],
        gap=finished.gap,
        curves={name: one for name, one in curves.items() if one is not None},
        sections=sections_of(finished, ground),
    )
    write_page(content, context.output / PAGE)
