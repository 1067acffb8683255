"""Arguments and options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
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
OutputFile = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The TREC run to write; .gz compresses it.")
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, metavar="N", help="Ray workers; 0 or 1 works in this process.")
]
CollectionOption = Annotated[
    str, typer.Option("--collection", metavar="REF", show_default=False, help="ir_datasets id, or a folder.")
]


class Dtype(StrEnum):
    """Of a backbone's weights when it scores; heads and scores stay float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Of the backbone's weights; bfloat16 suits a GPU.")]
