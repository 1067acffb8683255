"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or the name of a shipped one (`stillhouse list`).")
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="Change a dotted key of the recipe, e.g. seed=1; can be repeated.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Let through what Ray, MLflow and torch print.")]
SplitOption = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, dev or test.")]
OutputFile = Annotated[Path, typer.Option("--output", metavar="FILE", help="The TREC run to write; .gz compresses it.")]
