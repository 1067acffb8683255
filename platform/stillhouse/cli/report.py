"""`stillhouse report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console


def report(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The output.path of a finished run.")],
) -> None:
    """Print the table of a finished run again.

    \b
    Examples:
      stillhouse report runs/demo
    """
    from stillhouse import pipeline

    pipeline.report(output, console=open_console())
