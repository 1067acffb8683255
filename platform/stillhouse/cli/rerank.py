"""`stillhouse rerank`: the candidates of a recipe, or any TREC run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import Dtype, DtypeOption, OutputFile, SetOption, SplitOption, VerboseOption, WorkersOption
from stillhouse.errors import CollectionError, RecipeError


def rerank(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="A recipe with RANKER, or a TREC run with --model.")
    ],
    overrides: SetOption,
    ranker: Annotated[
        str | None, typer.Argument(metavar="RANKER", help="Folder of a saved ranker, a hub name, or an MLflow URI.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The ranker for a TREC run, named like RANKER.")
    ] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="REF", help="ir_datasets id or folder of a TREC run.")
    ] = None,
    output: OutputFile = Path("rerank.trec.gz"),
    split: SplitOption = "test",
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, help="Candidates per query; evaluation.depth, or all of a run, by default."),
    ] = None,
    workers: WorkersOption = 0,
    dtype: DtypeOption = Dtype.float32,
    verbose: VerboseOption = False,
) -> None:
    """Re-rank a recipe's candidates or a TREC run with any ranker.

    Collection and candidates of a recipe are its own; --set changes them. The result is a TREC run.

    \b
    Examples:
      stillhouse rerank demo runs/demo/student --split dev --output student.dev.trec.gz
      stillhouse rerank demo cross-encoder/ms-marco-MiniLM-L6-v2 --depth 100 --set candidates.depth=100
      stillhouse rerank run.trec.gz --model runs/demo/student --collection stillhouse/pydocs -o reranked.trec.gz
    """
    if model is None and ranker is not None:
        if collection is not None:
            raise RecipeError("rerank: a recipe has its own collection; --collection goes with a TREC run and --model")
        _of_recipe(source, overrides, ranker, output, split, depth, workers, dtype.value, verbose)
        return
    if model is None or ranker is not None or collection is None or overrides:
        raise RecipeError("rerank: give RECIPE RANKER, or RUN --model MODEL --collection REF without --set")
    if not Path(source).is_file():
        raise CollectionError(f"{source}: no such file; expected a TREC run, plain or .gz")
    from stillhouse.pipeline.retrieval import rerank_file

    rerank_file(
        Path(source),
        model,
        collection,
        split,
        depth,
        output,
        workers=workers,
        dtype=dtype.value,
        console=open_console(),
        verbose=verbose,
    )


def _of_recipe(
    recipe: str,
    overrides: list[str],
    ranker: str,
    output: Path,
    split: str,
    depth: int | None,
    workers: int,
    dtype: str,
    verbose: bool,
) -> None:
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse.evaluation.rerank import rerank as rerank_split
    from stillhouse.evaluation.trec import write_run
    from stillhouse.pipeline.context import Context
    from stillhouse.pipeline.retrieval import opened, rerank_spread

    console = open_console()
    with Context(loaded, console, verbose) as context:
        if split not in context.collection.splits:
            raise CollectionError(f"--split {split}: no such split; there are {', '.join(context.collection.splits)}")
        if depth is not None and depth > loaded.candidates.depth:
            raise CollectionError(
                f"--depth {depth}: the recipe has {loaded.candidates.depth} candidates; "
                f"add --set candidates.depth={depth}"
            )
        candidates = context.candidates(split)
        where = (context.collection, split, candidates, depth or loaded.evaluation.depth, context.root)
        with context.step("re-ranking") as advance:

            def count(done: int, total: int) -> None:
                advance(done, total, "")

            if workers > 1:
                context.ray()
                run = rerank_spread(ranker, *where, workers=workers, dtype=dtype, count=count)
            else:
                run = rerank_split(opened(ranker, dtype), *where, progress=count)
    write_run(output, run, Path(ranker).name)
    console.print(f"{len(run)} queries are in {output}.", highlight=False)
