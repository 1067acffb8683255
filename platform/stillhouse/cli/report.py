"""`stillhouse report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.errors import RecipeError


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="output.path of a finished run, id of an MLflow run, TREC run file, or a ranker."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page; the same as .md goes beside it.")
    ] = Path("report.html"),
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="REF", help="ir_datasets id or folder; a finished run brings its own."),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="SPLIT", help="Split of --collection.")] = "test",
    measures: Annotated[
        str | None, typer.Option("--measures", metavar="NAMES", help="ir_measures names; the first decides.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="NAME", help="Ranker that all others are tested against.")
    ] = None,
    candidates: Annotated[
        str, typer.Option("--candidates", metavar="SOURCE", help="What rankers re-rank on --collection.")
    ] = "bm25",
    depth: Annotated[int, typer.Option("--depth", min=1, help="Candidates per query for them.")] = 100,
    tracking: Annotated[
        str | None, typer.Option("--tracking", metavar="URI", help="The MLflow store of run ids.")
    ] = None,
) -> None:
    """Compare runs, run files and rankers on one HTML page.

    The table with its tests, effectiveness over latency, scores, learning curves, the queries that differ most, and
    where everything comes from. The table is printed too.

    \b
    Examples:
      stillhouse report runs/demo
      stillhouse report 544085760f674a9da4db32f7eb731970 --tracking sqlite:///.stillhouse/mlflow.db
      stillhouse report bm25.trec student.trec.gz --collection my/folder --reference bm25 -o compared.html
    """
    if output.suffix != ".html":
        raise RecipeError(f"--output {output}: the page is HTML; call it {output.with_suffix('.html')}")
    from stillhouse.comparison.sources import Asked
    from stillhouse.evaluation.measures import parse_measures

    names = (measures or "").split()
    if measures is not None:
        parse_measures(names)
    from stillhouse import pipeline

    asked = Asked(collection, split, names, reference, candidates, depth, tracking)
    pipeline.report(runs, asked, output, console=open_console())
