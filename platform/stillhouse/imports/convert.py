"""Public files in, a folder for recipes out."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.artifacts import cached_folder, file_digest
from stillhouse.collection import Collection
from stillhouse.errors import FormatError
from stillhouse.imports.files import Files
from stillhouse.imports.format import Format, Place
from stillhouse.imports.identify import Known, Sources
from stillhouse.imports.merge import where
from stillhouse.imports.row import MalformedError, Passage, Row
from stillhouse.imports.write import Writer

Progress = Callable[[int, int, int], None]
"""Called now and then with bytes read, bytes in all, and rows."""
_EVERY = 4096


@dataclass(frozen=True)
class Options:
    split: str = "train"
    collection: Collection | None = None
    """The rows are about its ids (and no collection is made); None: the ids are taken as they are."""
    pool: bool = False
    by_text: bool = False
    """Name queries and passages by their texts, where the source has them."""
    skip_malformed: int = 0
    """So many rows may be malformed; they are left out and counted."""
    allow_missing: bool = False
    """Leave out pairs that the collection does not have, instead of refusing them."""


@dataclass(frozen=True)
class Made:
    folder: Path
    split: str
    files: dict[str, str]
    """Kind (corpus, queries, qrels, candidates, scores, triples) -> name in the folder."""
    counts: dict[str, int]
    depth: int
    """The most candidates of a query."""


def convert(
    name: str, form: Format, paths: Sequence[Path], output: Path, options: Options, progress: Progress | None = None
) -> Made:
    """Write the folder `output`, which is not there yet; it appears whole or not at all.

    Raises FormatError with `file:line` for a row that is not what the format promises, for a contradiction, and for
    ids that the collection does not have.
    """
    if not re.fullmatch(r"[\w-]+", options.split):
        raise FormatError(f"--split {options.split}: expected letters, digits, - and _, as it stands in file names")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FormatError(f"{output}: is there already; name another folder, or remove it")
    if options.pool and form.parse_pool is None:
        raise FormatError(f"{name}: has no evaluation pool; leave --pool out")
    files = Files([Path(path) for path in paths])

    def build(folder: Path) -> dict[str, Any]:
        return _build(name, form, files, folder, options, progress)

    facts = cached_folder(output, build)
    return Made(output, options.split, facts["files"], facts["counts"], facts["depth"])


def _build(
    name: str, form: Format, files: Files, folder: Path, options: Options, progress: Progress | None
) -> dict[str, Any]:
    texts = form.texts and options.collection is None
    writer = Writer(folder, form, options.split, files.paths, texts)
    names = Known(options.collection, writer.counts) if options.collection else Sources(options.by_text)
    missing = _Missing(files.paths)
    try:
        for place, row in _rows(form, files, options, writer.counts, progress):
            _add(writer, names, row, place, form.triples, missing)
        if not writer.counts["rows"]:
            raise FormatError(f"{files.paths[0]}: has no rows")
        missing.check(options.allow_missing, writer.counts)
        writer.finish()
    finally:
        writer.close()
    shutil.rmtree(folder / "spool")
    if not writer.counts["queries"]:
        raise FormatError(f"{files.paths[0]}: no pair of it is in the collection; check the ids")
    if texts and not writer.counts["judgements"]:
        raise FormatError(f"{files.paths[0]}: no row has a positive; a collection needs some to train on")
    kinds = ("corpus", "queries", "qrels", "candidates", "scores", "triples")
    return {
        "format": name,
        "split": options.split,
        "sources": [{"name": path.name, "sha256": file_digest(path)} for path in files.paths],
        "files": {kind: writer.name(kind) for kind in kinds if (folder / writer.name(kind)).exists()},
        "counts": {kind: count for kind, count in sorted(writer.counts.items()) if count},
        "depth": writer.depth,
    }


def _rows(
    form: Format, files: Files, options: Options, counts: Counter[str], progress: Progress | None
) -> Iterator[tuple[Place, Row]]:
    parse = form.parse_pool if options.pool and form.parse_pool else form.parse
    for number, (place, raw) in enumerate(form.read(files)):
        try:
            row = parse(raw)
        except MalformedError as error:
            counts["malformed rows left out"] += 1
            if counts["malformed rows left out"] > options.skip_malformed:
                allowed = f" ({options.skip_malformed:,} were left out before it)" if options.skip_malformed else ""
                raise FormatError(f"{where(place, files.paths)}: {error}{allowed}") from None
            continue
        counts["rows"] += 1
        yield place, row
        if progress and number % _EVERY == 0:
            progress(files.read, files.total, number)


def _add(writer: Writer, names: Known | Sources, row: Row, place: Place, triples: bool, missing: _Missing) -> None:
    query_id = names.query(row)
    if query_id is None:
        missing.add(f"query {row.query_id or row.query!r}", place, len(row.passages))
        return
    passages: list[tuple[str, Passage]] = []
    for passage in row.passages:
        doc_id = names.doc(passage)
        if doc_id is None:
            missing.add(f"document {passage.doc_id or passage.text!r}", place, 1)
        else:
            passages.append((doc_id, passage))
    writer.add(query_id, row.query, passages, place)
    if triples and len(passages) == len(row.passages):
        writer.add_triple(query_id, *(doc_id for doc_id, _ in passages))


class _Missing:
    """What a given collection does not have."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._pairs = 0
        self._first = ""

    def add(self, what: str, place: Place, pairs: int) -> None:
        self._pairs += pairs
        self._first = self._first or f"{where(place, self._paths)}: {what[:80]}"

    def check(self, allowed: bool, counts: Counter[str]) -> None:
        if self._pairs and not allowed:
            raise FormatError(
                f"{self._first} is not in the collection, nor are others: {self._pairs:,} pairs in all; "
                "--allow-missing leaves them out"
            )
        counts["pairs not in the collection, left out"] += self._pairs
