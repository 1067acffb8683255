"""`stillhouse evaluate`: of a recipe's rankers, or of any TREC run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import SetOption, SplitOption, VerboseOption
from stillhouse.errors import RecipeError

if TYPE_CHECKING:
    from stillhouse.evaluation.measures import PerQuery

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
    relevance: Annotated[
        int | None,
        typer.Option("--relevance", min=1, help="Relevant from this grade on, for names without rel=; else 1."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    per_query: Annotated[
        Path | None, typer.Option("--per-query", metavar="FILE", help="Write `query measure value` lines.")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Measure a recipe's student on test, or any TREC run.

    The values are those of the `ir_measures` command on the same qrels and run: RR@10 is RR(rel=1)@10 unless
    --relevance says otherwise, and the measures that are printed name the level.

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
        written: dict[str, Any] = {"as_json": as_json, "per_query_file": per_query}
        _measure(run, collection, split, measures.split(), relevance=relevance, **written)


def _measure(
    file: Path,
    ref: str,
    split: str,
    measures: list[str],
    *,
    relevance: int | None,
    as_json: bool,
    per_query_file: Path | None,
) -> None:
    from stillhouse.collection.judgements import all_qrels, document_ids, relevance_of, source_of_split
    from stillhouse.evaluation.coverage import coverage
    from stillhouse.evaluation.measures import at_relevance, means, parse_measures, per_query
    from stillhouse.evaluation.trec import read_run

    parse_measures(measures)
    source = source_of_split(ref, split)
    if relevance is None:
        _tell_of_levels(measures, relevance_of(source))
    else:
        measures = at_relevance(measures, relevance)
    run, qrels = read_run(file), all_qrels(source)
    covered = coverage(run, qrels, document_ids(source))
    values = per_query(run, qrels, measures)
    missing = len(covered.missing_queries)
    for count, what in (
        (missing, f"of {len(qrels)} judged queries are not in the run; they count 0"),
        (covered.other_queries, "queries of the run have no judgement; they are left out"),
        (covered.unknown_documents, "results name documents that are not in the collection; they count as not judged"),
    ):
        if count:
            print(f"note: {count} {what}", file=sys.stderr)
    if per_query_file is not None:
        _write_per_query(per_query_file, values)
    if as_json:
        found = {"run": str(file), "collection": ref, "split": split, "queries": len(qrels), "measures": means(values)}
        print(json.dumps(found | {"missing_queries": missing}, indent=1))
        return
    for name, value in means(values).items():
        print(f"{name}\t{value:.4f}")
    print(f"queries\t{len(qrels)}")


def _tell_of_levels(measures: list[str], level: int) -> None:
    """Names mean what ir_measures means by them; where the collection's own level is another one, that is said."""
    from stillhouse.evaluation.measures import levelless

    plain = levelless(measures) if level != 1 else []
    if plain:
        print(
            f"note: {', '.join(plain)} counts grade 1 as relevant, as ir_measures does; this collection's level is "
            f"{level}: add --relevance {level}",
            file=sys.stderr,
        )


def _write_per_query(path: Path, values: PerQuery) -> None:
    from stillhouse.artifacts import atomic_file

    lines = (f"{query}\t{name}\t{value!r}\n" for name, queries in values.items() for query, value in queries.items())
    with atomic_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
