"""`stillhouse cost`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import SplitOption


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    auto = "auto"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def cost(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders, hub names or MLflow URIs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where table and picture go.")],
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="REF", help="Texts, and measures of quality, from here.")
    ] = None,
    split: SplitOption = "test",
    measures: Annotated[
        str, typer.Option("--measures", metavar="NAMES", help="ir_measures names, with blanks between them.")
    ] = "nDCG@10",
    depth: Annotated[int, typer.Option("--depth", min=1, help="BM25 candidates re-ranked for the measures.")] = 100,
    documents: Annotated[int, typer.Option("--documents", min=1, help="Scored for one query, timed.")] = 1000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed passes after three that warm up.")] = 20,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of torch.")] = 1,
    device: Annotated[Device, typer.Option("--device", help="Where it is measured.")] = Device.auto,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Of the backbone's weights.")] = Dtype.float32,
) -> None:
    """Measure what rankers cost: time, memory and storage.

    For one query and its documents, each ranker in a process of its own. Without --collection the texts are drawn from
    the vocabulary, as long as each ranker reads.

    \b
    Examples:
      stillhouse cost runs/demo/student cross-encoder/ms-marco-MiniLM-L6-v2 -o runs/cost
      stillhouse cost runs/demo/student --collection stillhouse/pydocs --documents 1000 --threads 4 -o runs/cost
    """
    from stillhouse.evaluation.measures import parse_measures
    from stillhouse.evaluation.suite import FirstStage, SuiteCollection

    parse_measures(measures.split())
    entry = None
    if collection is not None:
        entry = SuiteCollection(collection=collection, split=split, candidates=FirstStage(depth=depth))
    from stillhouse.collection import home
    from stillhouse.errors import RecipeError
    from stillhouse.pipeline.cost import Settings, run_costs
    from stillhouse.training.run import pick_device

    found = pick_device().type
    if device is Device.cuda and found != "cuda":
        raise RecipeError("--device cuda: torch sees no GPU here; leave it out")
    settings = Settings(
        documents=documents,
        repeats=repeats,
        threads=threads,
        device="cuda" if device is not Device.cpu and found == "cuda" else "cpu",
        dtype=dtype.value,
        measures=tuple(measures.split()),
    )
    run_costs(models, settings, entry, output, root=home().absolute(), console=open_console())
    typer.echo((output / "cost.md").read_text(encoding="utf-8"))
