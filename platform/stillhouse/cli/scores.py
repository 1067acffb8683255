"""`stillhouse scores`: what a person does with score stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption
from stillhouse.errors import StoreError

if TYPE_CHECKING:
    from stillhouse.scores.store import ScoreStore

app = typer.Typer(rich_markup_mode=None, help="Score stores: list, show, verify, export, import, merge, gc.")

RootOption = Annotated[
    str, typer.Option("--store", metavar="FOLDER", help="The store.path of the recipe.", show_default=True)
]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A store's key, or its beginning.")]
ROOT = ".stillhouse/scores"


def _store(root: str, key: str) -> ScoreStore:
    from stillhouse.scores.manage import find_store

    return find_store(root, key)


@app.command("list")
def list_(root: RootOption = ROOT) -> None:
    """List the stores: key, teacher, pairs, size.

    \b
    Examples:
      stillhouse scores list
      stillhouse scores list --store /shared/scores
    """
    from rich.table import Table

    from stillhouse.scores.manage import list_stores

    table = Table("key", "teacher", "scale", "pairs", "files", "MB", box=None, pad_edge=False)
    for one in list_stores(root):
        size = f"{one.bytes / 1e6:.1f}"
        table.add_row(one.key, one.teacher, one.scale, f"{one.pairs:,}", str(one.files), size)
    open_console().print(table)


@app.command()
def show(key: KeyArgument, root: RootOption = ROOT) -> None:
    """Print a store's teacher, size, digest and jobs as JSON.

    \b
    Examples:
      stillhouse scores show 3f2a
    """
    from stillhouse.scores import manage

    print(json.dumps(manage.show(_store(root, key)), indent=1, default=str))


@app.command()
def verify(key: KeyArgument, root: RootOption = ROOT) -> None:
    """Check every byte of a store; fails if something was wrong.

    Corrupt files are set aside; the next scoring job scores their pairs again.

    \b
    Examples:
      stillhouse scores verify 3f2a
    """
    from stillhouse.scores import manage

    found = manage.verify(_store(root, key))
    print(f"{found.files} files with {found.pairs:,} pairs are whole")
    for name in found.corrupt:
        print(f"corrupt, set aside: {name}")
    for name in found.gone:
        print(f"gone: {name}")
    if found.manifest_rebuilt:
        print("the manifest was rebuilt")
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def export(
    key: KeyArgument,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; .gz compresses it.")],
    root: RootOption = ROOT,
    form: Annotated[Literal["trec", "tsv"], typer.Option("--format", help="A TREC run, or tab-separated.")] = "trec",
) -> None:
    """Write a store's scores as a TREC run or a table.

    \b
    Examples:
      stillhouse scores export 3f2a teacher.trec.gz
      stillhouse scores export 3f2a teacher.tsv --format tsv
    """
    from stillhouse.scores.exchange import export_run, export_tsv

    lines = (export_run if form == "trec" else export_tsv)(_store(root, key), output)
    print(f"{lines:,} scores are in {output}")


@app.command("import")
def import_(
    recipe: RecipeArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Scores of the recipe's queries and documents.")],
    overrides: SetOption,
    form: Annotated[
        Literal["tsv", "trec", "pos_neg"] | None, typer.Option("--format", help="Told from the columns by default.")
    ] = None,
    scale: Annotated[
        Literal["logit", "probability", "grade", "order"], typer.Option("--scale", help="What its numbers mean.")
    ] = "logit",
) -> None:
    """Make a store from a public score file.

    Query and document ids are those of the recipe's collection; the store is made under its store.path.

    \b
    Examples:
      stillhouse scores import my.yaml bert_cat_ensemble.tsv --format pos_neg
    """
    from stillhouse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    from stillhouse.collection import home, materialise
    from stillhouse.scores.exchange import import_scores

    collection = materialise(loaded.collection, loaded.seed, home())
    root = loaded.store.path
    found = import_scores(file, root, collection, format=form, scale=scale, partitions=loaded.store.partitions)
    print(f"{found.added:,} pairs are in store {found.store.key}")
    if found.unknown:
        print(f"{found.unknown:,} lines name a query or document that the collection does not have; left out")


@app.command()
def merge(
    key: KeyArgument,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Another store.path with a store of this key.")],
    root: RootOption = ROOT,
) -> None:
    """Copy the pairs that a store lacks from another place.

    \b
    Examples:
      stillhouse scores merge 3f2a /other/scores
    """
    from stillhouse.scores import manage
    from stillhouse.scores.files import address_of, place_of
    from stillhouse.scores.store import ScoreStore

    there = _store(source, key)
    if address_of(place_of(source)) == address_of(place_of(root)):
        raise StoreError(f"{source}: source and target are the same store.path")
    target = ScoreStore(root, there.identity, there.partitions)
    print(f"{manage.merge(there, target):,} pairs were new")


@app.command()
def gc(key: KeyArgument, root: RootOption = ROOT) -> None:
    """Remove what kills left behind and join small files.

    Run it while nothing writes the store. No score is lost.

    \b
    Examples:
      stillhouse scores gc 3f2a
    """
    from stillhouse.scores import manage

    done = manage.gc(_store(root, key))
    print(
        f"{done.temporary} unfinished and {done.corrupt} corrupt files removed, {done.compacted} partitions joined, "
        f"{done.bytes / 1e6:.1f} MB freed"
    )
