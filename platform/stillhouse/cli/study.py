"""`stillhouse study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.errors import RecipeError


def study(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="Id of a study or its beginning, or its folder; the only one without."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page; .md, .json and pictures go beside it.")
    ] = Path("search.html"),
) -> None:
    """Report a kept search: cost, best trial, which keys mattered.

    Works on a search that is still running or was stopped, too. `tune` and `run` write the same when a search ends.

    \b
    Examples:
      stillhouse study
      stillhouse study 3f2a -o reports/search.html
    """
    if output.suffix != ".html":
        raise RecipeError(f"--output {output}: the page is HTML; call it {output.with_suffix('.html')}")
    from stillhouse.pipeline.search_report import report_study

    report_study(name, output, console=open_console())
