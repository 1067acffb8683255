"""Scores out to the field's files, and in from them."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import atomic_file, file_digest
from stillhouse.errors import StoreError
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.aside import Aside
from stillhouse.scores.files import Place, os_error_told
from stillhouse.scores.generation import add_missing
from stillhouse.scores.keys import pair_keys, partition_of
from stillhouse.scores.store import Scale, ScoreStore

if TYPE_CHECKING:
    from stillhouse.collection import Collection

Format = Literal["tsv", "trec", "pos_neg"]
Row = tuple[str, str, float]
"""query_id, doc_id, score."""
_BYTES_PER_PART = 16_000_000
"""Of text: about 700,000 pairs, which take some hundred megabytes while they are sorted."""
_ROUNDING = 1e-3
"""A public triple file scores a positive once per line, in another batch each time: the last digits differ."""


def export_run(store: ScoreStore, path: Path, tag: str = "stillhouse") -> int:
    """Write a TREC run (`query_id Q0 doc_id rank score tag`, best first, ties by document id); how many lines.

    A path that ends in `.gz` is compressed.
    """

    def lines(number: int) -> Iterator[str]:
        previous, rank = "", 0
        for query, doc, score in _ranked(store.table(number)):
            rank = rank + 1 if query == previous else 1
            previous = query
            yield f"{query} Q0 {doc} {rank} {score:.9g} {tag}\n"

    return _write(store, path, lines)


def export_tsv(store: ScoreStore, path: Path) -> int:
    """Write `query_id<tab>doc_id<tab>score` lines, best first per query; how many lines."""
    return _write(
        store, path, lambda number: (f"{q}\t{d}\t{score:.9g}\n" for q, d, score in _ranked(store.table(number)))
    )


@dataclass(frozen=True)
class Imported:
    store: ScoreStore
    added: int
    """Pairs that are new to the store."""
    unknown: int
    """Lines whose query or document the collection does not have."""


def import_scores(
    path: Path,
    root: str | Place,
    collection: Collection,
    *,
    format: Format | None = None,
    scale: Scale = "logit",
    name: str | None = None,
    partitions: int = 16,
) -> Imported:
    """A store from a score file: its teacher is the file, by the digest of its bytes.

    Formats (None: told from the number of columns of the first line): `tsv` = query, document, score; `trec` = a TREC
    run; `pos_neg` = score of the positive, score of the negative, query, positive, negative. Queries are looked up in
    all splits. Memory holds the collection's ids and a part of the file; its rows wait in a temporary folder, 12 bytes
    each. Raises StoreError for a line that cannot be read, a score that is not finite, a pair with two scores,
    and a file that shares nothing with the collection.
    """
    path = Path(path)
    identity = {"ranker": "file", "name": name or path.name, "sha256": _digest(path), "scale": scale}
    store = ScoreStore(root, identity, partitions)
    known = _Known(collection)
    parts = store.partitions * (1 + _text_bytes(path) // (store.partitions * _BYTES_PER_PART))
    try:
        with Aside(partition_of(pair_keys(known.hashes, known.hashes), parts)) as aside:
            unknown = _put_aside(path, format, known, aside)
            if not aside.total:
                raise StoreError(f"{path}: none of its pairs is in the collection; check the ids")
            # All parts before any is stored: a file that contradicts itself leaves no store.
            for part, rows in aside.parts():
                aside.replace(part, _each_pair_once(path, rows, known))
            store.create()
            store.mending = True
            added = sum(add_missing(store, known.table(rows)) for _, rows in aside.parts())
    except OSError as error:
        raise StoreError(os_error_told(error, path)) from None
    store.commit()
    return Imported(store, added, unknown)


def read_score_file(path: Path, format: Format | None = None) -> Iterator[Row]:
    """The pairs of a score file, line by line; a `pos_neg` line gives two."""
    parse: Callable[[list[str]], list[Row]] | None = _PARSERS[format] if format else None
    with _open(path, "rt") as stream:
        for number, line in enumerate(_lines(path, stream), start=1):
            if not line.strip():
                continue
            fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if parse is None:
                parse = _parser(path, len(fields))
            try:
                rows = parse(fields)
            except (ValueError, IndexError):
                raise StoreError(f"{path}, line {number}: {line.strip()!r} is not a line of scores") from None
            if not all(math.isfinite(score) for _, _, score in rows):
                raise StoreError(f"{path}, line {number}: {line.strip()!r} has a score that is not finite")
            yield from rows


def _lines(path: Path, stream: IO[str]) -> Iterator[str]:
    try:
        yield from stream
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read to its end: {error}") from None


def _tsv(fields: list[str]) -> list[Row]:
    query, doc, score = fields
    return [(query, doc, float(score))]


def _trec(fields: list[str]) -> list[Row]:
    query, _, doc, _, score, _ = fields
    return [(query, doc, float(score))]


def _pos_neg(fields: list[str]) -> list[Row]:
    positive_score, negative_score, query, positive, negative = fields
    return [(query, positive, float(positive_score)), (query, negative, float(negative_score))]


_PARSERS: dict[Format, Callable[[list[str]], list[Row]]] = {"tsv": _tsv, "trec": _trec, "pos_neg": _pos_neg}
_COLUMNS: dict[int, Format] = {3: "tsv", 6: "trec", 5: "pos_neg"}


def _parser(path: Path, columns: int) -> Callable[[list[str]], list[Row]]:
    if columns not in _COLUMNS:
        raise StoreError(f"{path}, line 1: {columns} columns; expected 3 (tsv), 6 (TREC run) or 5 (pos_neg)")
    return _PARSERS[_COLUMNS[columns]]


class _Known:
    """The texts of a collection, as a score file names them: queries of all splits under one number each."""

    def __init__(self, collection: Collection) -> None:
        splits = [split.queries for split in collection.splits.values()]
        ids = [query_id for queries in splits for query_id in queries.ids]
        self.queries = {query_id: number for number, query_id in reversed(list(enumerate(ids)))}
        self.docs = collection.docs.row_of
        self.hashes = np.concatenate([queries.hashes.digits for queries in splits])
        self.doc_hashes = collection.docs.hashes.digits
        self._query_ids, self._doc_ids = pa.array(ids, pa.string()), collection.docs.ids.column.combine_chunks()

    def ids(self, row: np.void) -> tuple[str, str]:
        return self._query_ids[int(row["query"])].as_py(), self._doc_ids[int(row["doc"])].as_py()

    def keys(self, rows: np.ndarray) -> np.ndarray:
        return pair_keys(self.hashes[rows["query"]], self.doc_hashes[rows["doc"]])

    def table(self, rows: np.ndarray) -> pa.Table:
        """Rows of SCORE_SCHEMA."""
        columns = {
            "query_hash": pa.array(self.hashes[rows["query"]]).cast(pa.string()),
            "doc_hash": pa.array(self.doc_hashes[rows["doc"]]).cast(pa.string()),
            "query_id": self._query_ids.take(pa.array(rows["query"])),
            "doc_id": self._doc_ids.take(pa.array(rows["doc"])),
            "score": pa.array(rows["score"]),
            "num_tokens": pa.nulls(len(rows), pa.int32()),
            "truncated": pa.nulls(len(rows), pa.bool_()),
        }
        return pa.table(columns, schema=SCORE_SCHEMA)


def _text_bytes(path: Path) -> int:
    """About the length of the text; scores pack to a quarter."""
    return path.stat().st_size * (4 if path.suffix == ".gz" else 1)


def _put_aside(path: Path, format: Format | None, known: _Known, aside: Aside) -> int:
    """Put the file's rows into their parts; how many lines the collection does not know."""
    unknown = 0
    for query_id, doc_id, score in read_score_file(path, format):
        query, doc = known.queries.get(query_id), known.docs.get(doc_id)
        if query is None or doc is None:
            unknown += 1
        else:
            aside.add(query, doc, score)
    return unknown


def _each_pair_once(path: Path, rows: np.ndarray, known: _Known) -> np.ndarray:
    """Of texts that stand under several ids the first line counts, and of scores that differ by rounding the first."""
    _, first, inverse = np.unique(known.keys(rows), return_index=True, return_inverse=True)
    scores = rows["score"]
    for differing in np.flatnonzero(~np.isclose(scores, scores[first][inverse], rtol=_ROUNDING, atol=_ROUNDING)):
        row, other = rows[differing], rows[first[inverse[differing]]]
        if (row["query"], row["doc"]) == (other["query"], other["doc"]):
            query_id, doc_id = known.ids(row)
            raise StoreError(
                f"{path}: query {query_id}, document {doc_id} has two scores, {other['score']:.9g} and "
                f"{row['score']:.9g}; keep one"
            )
    return np.asarray(rows[first])


def _ranked(table: pa.Table) -> Iterator[Row]:
    order = [("query_id", "ascending"), ("score", "descending"), ("doc_id", "ascending")]
    ranked = table.select(["query_id", "doc_id", "score"]).sort_by(order)
    for batch in ranked.to_batches(max_chunksize=65536):
        yield from zip(*(batch.column(number).to_pylist() for number in range(3)), strict=True)


def _write(store: ScoreStore, path: Path, lines: Callable[[int], Iterator[str]]) -> int:
    count = 0
    try:
        with atomic_file(Path(path)) as temporary, _open(temporary, "wt", compressed=Path(path).suffix == ".gz") as out:
            for number in range(store.partitions):
                for line in lines(number):
                    out.write(line)
                    count += 1
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
    return count


@contextmanager
def _open(path: Path, mode: Literal["rt", "wt"], compressed: bool | None = None) -> Iterator[IO[Any]]:
    if path.suffix == ".gz" if compressed is None else compressed:
        with gzip.open(path, mode, encoding="utf-8") as stream:
            yield stream
    else:
        with path.open(mode, encoding="utf-8") as stream:
            yield stream


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
