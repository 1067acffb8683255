"""`stillhouse retrieve`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import (
    CollectionOption,
    Dtype,
    DtypeOption,
    OutputFile,
    SplitOption,
    VerboseOption,
    WorkersOption,
)


class Index(StrEnum):
    exact = "exact"
    flat = "flat"
    hnsw = "hnsw"
    ivf = "ivf"
    ivfpq = "ivfpq"


def retrieve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder of a saved ranker, a hub name, or an MLflow URI.")
    ],
    collection: CollectionOption,
    index_options: Annotated[
        list[str],
        typer.Option(
            "--index-option",
            metavar="KEY=VALUE",
            default_factory=list,
            show_default=False,
            help="m, ef_construction, ef_search; nlist, nprobe; bytes, refine; per_token. Can be repeated.",
        ),
    ],
    output: OutputFile = Path("run.trec.gz"),
    split: SplitOption = "test",
    depth: Annotated[int, typer.Option("--depth", min=1, help="Documents per query.")] = 1000,
    index: Annotated[Index, typer.Option("--index", help="exact compares every document.")] = Index.exact,
    check_recall: Annotated[
        int, typer.Option("--check-recall", min=0, metavar="N", help="Compare N queries with exact search.")
    ] = 0,
    workers: WorkersOption = 0,
    dtype: DtypeOption = Dtype.float32,
    verbose: VerboseOption = False,
) -> None:
    """Search a whole collection with a student, to a TREC run.

    The documents are encoded once; a killed command goes on with the shards that are missing. The run is a source of
    candidates: `candidates.source: runs/{split}.trec.gz`.

    \b
    Examples:
      stillhouse retrieve runs/demo/student --collection stillhouse/pydocs --split train --depth 200 -o train.trec.gz
      stillhouse retrieve runs/demo/student --collection stillhouse/pydocs --index hnsw --check-recall 100
    """
    if index is Index.exact and (index_options or check_recall):
        from stillhouse.errors import RecipeError

        raise RecipeError("retrieve: --index-option and --check-recall belong to an index; add --index hnsw, say")
    from stillhouse.pipeline.retrieval import retrieve_file

    retrieve_file(
        model,
        collection,
        split,
        depth,
        output,
        index=index.value,
        index_options=index_options,
        workers=workers,
        dtype=dtype.value,
        recall_queries=check_recall,
        console=open_console(),
        verbose=verbose,
    )
