"""`stillhouse repeat`."""

from __future__ import annotations

from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import VerboseOption


def repeat(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="MLflow id of a trial, or of a student's training.")],
    tracking: Annotated[
        str | None,
        typer.Option("--tracking", "--tracking-uri", metavar="URI", help="The MLflow store that holds the run."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0,
            help="Largest difference that passes; by default 0 where machine and versions are the same, else 0.005.",
        ),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Train a recorded student again, compare its dev measure.

    Its record alone says how: that of a trial, or of a student that `run` or `train` made. Collection and candidates
    must have the recorded digests. Ends with status 1 if the measures differ by more than the tolerance. Nothing is
    recorded.

    \b
    Examples:
      stillhouse repeat 544085760f674a9da4db32f7eb731970
      stillhouse repeat 544085760f674a9da4db32f7eb731970 --tracking http://mlflow:5000 --tolerance 0.01
    """
    from stillhouse import pipeline

    if not pipeline.repeat(run, tracking, tolerance, console=open_console(), verbose=verbose).same:
        raise typer.Exit(1)
