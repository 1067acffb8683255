"""`stillhouse evaluate`: of a recipe's rankers, or of any TREC run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import SetOption, SplitOption, VerboseOption
from stillhouse.errors import CollectionError, RecipeError

if TYPE_CHECKING:
    from stillhouse.evaluation.measures import PerQuery, Qrels

RunFile = Annotated[Path | None, typer.Option("--run", metavar="FILE", help="A TREC run to measure, plain or .gz.")]


def evaluate(
    overrides: SetOption,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Measure the student under its output.path on test.")
    ] = None,
    run: RunFile = None,
    collection: Annotated[
        str | None, typer.Option("--collection", metavar="REF", help="ir_datasets id or folder with the qrels.")
    ] = None,
    measures: Annotated[
        str, typer.Option("--measures", metavar="NAMES", help="ir_measures names, with blanks between them.")
    ] = "nDCG@10 RR@10",
    split: SplitOption = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    per_query: Annotated[
        Path | None, typer.Option("--per-query", metavar="FILE", help="Write `query measure value` lines.")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Measure a recipe's student on test, or any TREC run.

    The values are those of the `ir_measures` command on the same qrels and run.

    \b
    Examples:
      stillhouse evaluate demo
      stillhouse evaluate --run runs/demo/runs/student.test.trec.gz \\
          --collection stillhouse/pydocs --split test --measures "nDCG@10 RR(rel=2)@10" --json
    """
    if (recipe is None) == (run is None):
        raise RecipeError("evaluate: give either a RECIPE or --run FILE with --collection REF")
    if recipe is not None:
        from stillhouse.recipe import load_recipe

        loaded = load_recipe(recipe, overrides)
        # After the recipe: a typo in it is told before torch and Ray are loaded.
        from stillhouse import pipeline

        pipeline.evaluate(loaded, console=open_console(), verbose=verbose)
    elif run is not None:
        if collection is None:
            raise RecipeError("evaluate --run: name the qrels with --collection, an ir_datasets id or a folder")
        _measure(run, collection, split, measures.split(), as_json=as_json, per_query_file=per_query)


def _measure(
    file: Path, ref: str, split: str, measures: list[str], *, as_json: bool, per_query_file: Path | None
) -> None:
    from stillhouse.evaluation.measures import means, parse_measures, per_query
    from stillhouse.evaluation.trec import read_run

    parse_measures(measures)
    run, qrels = read_run(file), _qrels(ref, split)
    values = per_query(run, qrels, measures)
    missing, unknown = len(qrels.keys() - run.keys()), len(run.keys() - qrels.keys())
    if missing:
        print(f"note: {missing} of {len(qrels)} judged queries are not in the run; they count 0", file=sys.stderr)
    if unknown:
        print(f"note: {unknown} queries of the run have no judgement; they are left out", file=sys.stderr)
    if per_query_file is not None:
        _write_per_query(per_query_file, values)
    if as_json:
        found = {"run": str(file), "collection": ref, "split": split, "queries": len(qrels), "measures": means(values)}
        print(json.dumps(found, indent=1))
        return
    for name, value in means(values).items():
        print(f"{name}\t{value:.4f}")
    print(f"queries\t{len(qrels)}")


def _qrels(ref: str, split: str) -> Qrels:
    """All judgements of a split, as they stand: query id -> document id -> grade."""
    from stillhouse.collection import home
    from stillhouse.collection.materialise import open_source
    from stillhouse.recipe.tree import CollectionSpec

    qrels: dict[str, dict[str, int]] = {}
    source = open_source(ref, split, CollectionSpec.model_fields["packages"].default, home())
    for number, qrel in source.qrels():
        grades = qrels.setdefault(qrel.query_id, {})
        if grades.setdefault(qrel.doc_id, qrel.relevance) != qrel.relevance:
            raise CollectionError(
                f"{source.place('qrels', number)}: query {qrel.query_id}, document {qrel.doc_id} is judged twice; "
                "keep one"
            )
    return qrels


def _write_per_query(path: Path, values: PerQuery) -> None:
    from stillhouse.artifacts import atomic_file

    lines = (f"{query}\t{name}\t{value!r}\n" for name, queries in values.items() for query, value in queries.items())
    with atomic_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
