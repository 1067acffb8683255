"""`stillhouse reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.errors import RecipeError


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", help="Names of mini recipes; all without one.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,N", help="Seeds of the students.")] = "0,1,2",
    results: Annotated[
        Path, typer.Option("--results", metavar="FOLDER", help="Where every finished ranker leaves its measures.")
    ] = Path("runs/reproduce"),
    docs: Annotated[
        Path, typer.Option("--docs", metavar="FOLDER", help="Where reproductions.json, the page and its pictures go.")
    ] = Path("docs"),
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Only write the page from reproductions.json.")
    ] = False,
) -> None:
    """Run the papers' experiments at mini size and write docs/reproductions.md.

    What is finished is kept; after a Ctrl-C or a kill the same command goes on. About an hour on two cores.

    \b
    Examples:
      stillhouse reproduce
      stillhouse reproduce menon-losses-mini --seeds 0
      stillhouse reproduce --page-only
    """
    import json

    from stillhouse.reproduction import page

    file = docs / "reproductions.json"
    console = open_console()
    if page_only:
        if not file.exists():
            raise RecipeError(f"{file}: not there; run `stillhouse reproduce` first")
        record = json.loads(file.read_text())
    else:
        from stillhouse.reproduction import harness

        numbers = _numbers(seeds)
        experiments, recipes = harness.shipped(names or ())
        summaries = harness.reproduce(experiments, recipes, numbers, results.absolute(), console)
        record = harness.add_to(file, summaries)
    page.write(record, docs)
    console.print(f"The page is {docs / 'reproductions.md'}.", highlight=False, markup=False)


def _numbers(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"--seeds {text}: expected numbers with commas between, e.g. 0,1,2") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RecipeError(f"--seeds {text}: each seed once, and none below 0")
    return seeds
