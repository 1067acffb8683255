"""`stillhouse rerank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import OutputFile, RecipeArgument, SetOption, SplitOption, VerboseOption


def rerank(
    recipe: RecipeArgument,
    ranker: Annotated[
        str, typer.Argument(metavar="RANKER", help="Folder of a saved ranker, a hub name, or an MLflow URI.")
    ],
    overrides: SetOption,
    output: OutputFile = Path("rerank.trec.gz"),
    split: SplitOption = "test",
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, help="Candidates per query; evaluation.depth by default.")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Re-rank a recipe's candidates with any ranker; write a TREC run.

    Collection and candidates are the recipe's; --set changes them.

    \b
    Examples:
      stillhouse rerank demo runs/demo/student --split dev --output student.dev.trec.gz
      stillhouse rerank demo cross-encoder/ms-marco-MiniLM-L6-v2 --depth 100 --set candidates.depth=100
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    # After the recipe: a typo in it is told before torch and Ray are loaded.
    from stillhouse.errors import CollectionError
    from stillhouse.evaluation.rerank import rerank as rerank_split
    from stillhouse.evaluation.trec import write_run
    from stillhouse.pipeline.context import Context
    from stillhouse.rankers import load_ranker

    console = open_console()
    with Context(loaded, console, verbose) as context:
        if split not in context.collection.splits:
            raise CollectionError(f"--split {split}: no such split; there are {', '.join(context.collection.splits)}")
        if depth is not None and depth > loaded.candidates.depth:
            raise CollectionError(
                f"--depth {depth}: the recipe has {loaded.candidates.depth} candidates; "
                f"add --set candidates.depth={depth}"
            )
        model = load_ranker(ranker)
        candidates = context.candidates(split)
        with context.step("re-ranking") as advance:
            run = rerank_split(
                model,
                context.collection,
                split,
                candidates,
                depth or loaded.evaluation.depth,
                context.root,
                progress=lambda done, total: advance(done, total, ""),
            )
    write_run(output, run, Path(ranker).name)
    console.print(f"{len(run)} queries are in {output}.", highlight=False)
