"""`stillhouse import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stillhouse.cli.console import open_console
from stillhouse.errors import FormatError

if TYPE_CHECKING:
    from stillhouse.collection import Collection
    from stillhouse.imports.convert import Made
    from stillhouse.scores.store import Scale

Name = Literal["triples", "teacher-scores", "sbert", "rank-distillm", "rankgpt", "tevatron", "rlhn", "dpr"]


FormatArgument = Annotated[Name, typer.Argument(metavar="FORMAT", help="What the files are; docs/imports.md.")]
FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Text, JSON, Parquet or Arrow; .gz and .zst are unpacked.")
]
FolderOption = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")]
CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", metavar="REF", help="ir_datasets id or folder whose ids or texts these are."),
]
ScaleOption = Annotated[
    Literal["logit", "probability", "grade", "order"] | None,
    typer.Option("--scale", help="What the scores mean; the format's usual one by default."),
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="Put the scores into this store.path at once.")
]
SkipOption = Annotated[
    int, typer.Option("--skip-malformed", min=0, metavar="N", help="Leave out up to N malformed rows.")
]


def import_(
    format: FormatArgument,
    files: FilesArgument,
    output: FolderOption,
    collection: CollectionOption = None,
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="The split it is for: in the names.")
    ] = "train",
    scale: ScaleOption = None,
    store: StoreOption = None,
    pool: Annotated[bool, typer.Option("--pool", help="dpr: candidates are the 200 passages of evaluation.")] = False,
    by_text: Annotated[bool, typer.Option("--by-text", help="Name queries and passages by their texts.")] = False,
    skip_malformed: SkipOption = 0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out pairs that --collection does not have.")
    ] = False,
) -> None:
    """Turn public training files into what a recipe reads.

    Formats: triples, teacher-scores, sbert, rank-distillm, rankgpt, tevatron, rlhn, dpr.

    \b
    Examples:
      stillhouse import rlhn rlhn-680K.parquet -o rlhn
      stillhouse import teacher-scores ensemble.tsv -o t2 --collection msmarco-passage/train/judged
      stillhouse import rankgpt marco-train-100k.jsonl marco-train-100k-gpt3.5.json -o gpt --skip-malformed 12000
      stillhouse import dpr biencoder-nq-dev.json -o nq-dev --split dev --pool
    """
    from stillhouse.imports import FORMATS
    from stillhouse.imports.convert import Options, convert
    from stillhouse.progress import progress_line

    form = FORMATS[format]
    meaning = _scale(format, form.scales, scale, store)
    console = open_console()
    known = open_known(collection, split) if collection else None
    options = Options(split, known, pool, by_text, skip_malformed, allow_missing)
    with progress_line(console, f"import {format}") as advance:

        def progress(read: int, total: int, rows: int) -> None:
            advance(read // 10**6, max(total // 10**6, 1), f"MB, {rows:,} rows")

        made = convert(format, form, files, output, options, progress)
    for line in (*_report(made), *_recipe(made, meaning, collection)):
        console.print(line, highlight=False, markup=False)
    if store and meaning:
        console.print(_fill(made, store, meaning, known or open_known(str(output), split)), highlight=False)


def open_known(ref: str, split: str) -> Collection:
    """The collection that ids are looked up in: one split of a folder, or an ir_datasets id."""
    from stillhouse.collection import home, materialise
    from stillhouse.collection.folder import is_collection
    from stillhouse.recipe.tree import CollectionSpec

    one = f"{ref.rstrip('/')}/{split}" if is_collection(Path(ref).expanduser()) else ref
    return materialise(CollectionSpec(train=one, dev=one, test=one), 0, home())


def _scale(format: str, allowed: tuple[Scale, ...], asked: Scale | None, store: Path | None) -> Scale | None:
    """What the scores of a format mean; None where it has none."""
    if not allowed:
        if asked or store:
            raise FormatError(f"{format}: has no scores; leave --scale and --store out")
        return None
    if asked and asked not in allowed:
        raise FormatError(f"--scale {asked}: {format} can be {', '.join(allowed)}")
    return asked or allowed[0]


def _fill(made: Made, store: Path, scale: Scale, collection: Collection) -> str:
    """Put the scores into a store; what a recipe that names the file would do when it runs."""
    from stillhouse.scores.exchange import import_scores

    if "scores" not in made.files:
        raise FormatError(f"{made.folder}: its rows have no scores for --store")
    found = import_scores(made.folder / made.files["scores"], store, collection, scale=scale)
    return f"{found.added:,} scores are new in store {found.store.key}"


def _report(made: Made) -> list[str]:
    lines = [f"{made.folder / name}" for name in made.files.values()]
    return [f"made {line}" for line in lines] + [f"  {count:,} {what}" for what, count in made.counts.items()]


def _recipe(made: Made, scale: Scale | None, collection: str | None) -> list[str]:
    """The lines of a recipe that use the folder."""
    lines = ["in a recipe:"]

    def path(name: str) -> str:
        return json.dumps(str(made.folder / name), ensure_ascii=False)

    if "corpus" in made.files:
        lines.append(f"  collection.{made.split}: {path(made.split)}")
    elif collection:
        lines.append(f"  collection.{made.split}: {json.dumps(collection, ensure_ascii=False)}")
    if "candidates" in made.files:
        run = made.files["candidates"].replace(f".{made.split}.", ".{split}.")
        source = path(f"{run} or bm25")
        lines.append(f"  candidates: {{source: {source}, depth: {made.depth}}}")
    if "scores" in made.files:
        lines.append(f"  teachers: {{imported: {{scores: {path(made.files['scores'])}, scale: {scale}}}}}")
    if "triples" in made.files:
        lines.append(f"  stages.<stage>.groups: {{strategy: triples, triples: {path(made.files['triples'])}}}")
    return lines
