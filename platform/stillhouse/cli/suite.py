"""`stillhouse suite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console


def suite(
    name: Annotated[str, typer.Argument(metavar="SUITE", help="Path of a suite, or a shipped one: beir, local.")],
    model: Annotated[
        list[str], typer.Option("--model", metavar="MODEL", help="Folder, hub name or MLflow URI; can be repeated.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where tables, runs and values per query go.")
    ],
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, help="Candidates per query instead of the suite's.")
    ] = None,
) -> None:
    """Measure rankers out of domain: collections of one file.

    One table with the average over collections, paired tests for each. What is finished is kept; after a Ctrl-C or a
    kill the same command goes on.

    \b
    Examples:
      stillhouse suite local --model runs/demo/student -o runs/local
      stillhouse suite beir --model runs/a/student --model runs/b/student --depth 50 -o runs/beir
    """
    from stillhouse.evaluation.suite import load_suite, with_depth

    # Before torch is loaded: a typo in the file is told at once.
    loaded = load_suite(name)
    if depth is not None:
        loaded = with_depth(loaded, depth)
    from stillhouse.collection import home
    from stillhouse.pipeline.suite import run_suite

    console = open_console()
    result = run_suite(loaded, model, output, root=home().absolute(), console=console)
    for measure in result.measures:
        average = ", ".join(f"{system} {value:.4f}" for system, value in result.average(measure).items())
        console.print(f"average {measure}: {average}", highlight=False, markup=False)
    console.print(f"The table is {output / 'suite.md'}.", highlight=False, markup=False)
