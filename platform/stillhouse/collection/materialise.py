"""Write a collection's texts once, so that no worker reads its sources again."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import cached_folder, stable_hash, text_hash
from stillhouse.collection import local_data, pydocs
from stillhouse.collection.folder import FolderSource, is_collection
from stillhouse.collection.ir_source import IrDatasetsSource
from stillhouse.collection.source import Source
from stillhouse.collection.texts import HASH, Collection, hash_file, open_collection
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.records import QREL_SCHEMA, TEXT_SCHEMA, Query

_VERSION = 1
_BATCH = 10_000
_log = logging.getLogger(__name__)


def materialise(spec: CollectionSpec, seed: int, root: Path) -> Collection:
    """The collection of a recipe, written below `root/collections/<digest>/` unless it is there.

    `seed` chooses the queries where the recipe sets a maximum: the first by hash of (seed, query id), so a smaller
    maximum is a subset of a larger one. Raises CollectionError for sources that cannot be used; what can be left out
    (judgements of unknown ids, empty queries, queries without positives) is counted in `facts` and logged.
    """
    root = Path(root).absolute()  # workers have another working directory
    sources = {
        split: open_source(ref, split, spec.packages, root)
        for split, ref in (("train", spec.train), ("dev", spec.dev), ("test", spec.test))
    }
    limits = {"train": spec.max_train_queries, "dev": spec.max_dev_queries, "test": spec.max_test_queries}
    identity = {
        "version": _VERSION,
        "sources": {split: source.identity() for split, source in sources.items()},
        "limits": limits,
        "seed": seed if any(limits.values()) else None,
    }
    if spec.keep_unlabelled:
        identity["unlabelled"] = "train"
    digest = stable_hash(identity)
    path = root / "collections" / digest

    unlabelled = {"train"} if spec.keep_unlabelled else set()

    def build(folder: Path) -> dict[str, Any]:
        return {"digest": digest, **_write(folder, sources, limits, seed, unlabelled)}

    cached_folder(path, build)
    return open_collection(path)


def materialise_split(ref: str, split: str, root: Path) -> Collection:
    """One split of a reference with all its queries, judged or not, as `materialise` writes and names it."""
    root = Path(root).absolute()
    source = open_source(ref, split, CollectionSpec.model_fields["packages"].default, root)
    digest = stable_hash({"version": _VERSION, "sources": {split: source.identity()}, "unlabelled": split})
    path = root / "collections" / digest

    def build(folder: Path) -> dict[str, Any]:
        return {"digest": digest, **_write(folder, {split: source}, {split: None}, 0, {split})}

    cached_folder(path, build)
    return open_collection(path)


def open_source(ref: str, split: str, packages: Sequence[str], root: Path) -> Source:
    """What a recipe's reference means: pydocs, a test collection, a folder, `folder/<split>`, or an ir_datasets id."""
    if ref == pydocs.NAME or ref.startswith(f"{pydocs.NAME}/"):
        name = ref[len(pydocs.NAME) + 1 :] or split
        if name not in pydocs.SPLITS:
            raise CollectionError(f"{ref}: no such split; {pydocs.NAME} has {', '.join(pydocs.SPLITS)}")
        folder = pydocs.build(packages, root)
        return FolderSource(folder, name, ref=ref, facts=pydocs.facts(folder))
    path = local_data.find(ref) if local_data.names_one(ref) else Path(ref).expanduser()
    if path.is_dir():
        return FolderSource(path, split, ref=ref)
    if is_collection(path.parent):
        return FolderSource(path.parent, path.name, ref=ref)
    return IrDatasetsSource(ref)


def known_reference(ref: str) -> str:
    """What kind of source a reference names, without reading it; CollectionError where it names none.

    A test collection need not be there; an id of ir_datasets must be one, with documents, queries and qrels.
    """
    if ref == pydocs.NAME or ref.startswith(f"{pydocs.NAME}/"):
        return "embedded"
    if local_data.names_one(ref):
        return "test collection"
    path = Path(ref).expanduser()
    if path.is_dir() or is_collection(path.parent):
        return "folder"
    IrDatasetsSource(ref)
    return "ir_datasets id"


def _write(
    folder: Path,
    sources: Mapping[str, Source],
    limits: Mapping[str, int | None],
    seed: int,
    may_be_unlabelled: set[str],
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    doc_rows, docs_digest = _write_docs(folder / "docs.arrow", list(sources.values()), counts)
    facts: dict[str, Any] = {
        "refs": {split: source.ref for split, source in sources.items()},
        "sources": {split: source.facts() for split, source in sources.items()},
        "docs_digest": docs_digest,
        "query_digests": {},
        "counts": {"docs": dict(counts)},
    }
    for split, source in sources.items():
        counts = Counter()
        unlabelled = split in may_be_unlabelled
        qrels = _read_qrels(source, doc_rows, counts, may_lack=unlabelled)
        queries = _choose(_read_queries(source, qrels, counts, keep_all=unlabelled), limits[split], seed)
        counts["queries"] = len(queries)
        facts["query_digests"][split] = _write_queries(folder, split, queries, qrels, counts)
        facts["counts"][split] = dict(counts)
        _log_counts(source.ref, split, counts)
    return facts


def _write_docs(path: Path, sources: Sequence[Source], counts: Counter[str]) -> tuple[dict[str, int], str]:
    """All documents of the sources, once; returns id -> row and the digest of the texts."""
    different = list({source.docs_key: source for source in sources}.values())
    rows: dict[str, int] = {}
    with _text_writer(path) as writer:
        for source in different:
            new: set[str] = set()
            for number, doc in source.docs():
                known = rows.get(doc.doc_id)
                if doc.doc_id in new:
                    raise CollectionError(
                        f"{source.place('docs', number)}: document {doc.doc_id} stands there twice; keep one"
                    )
                if known is not None and writer.hash_of(known) != text_hash(doc.text):
                    raise CollectionError(
                        f"{source.place('docs', number)}: document {doc.doc_id} has another text than in "
                        f"{different[0].ref}; the splits of a recipe share one set of documents: give it another id"
                    )
                new.add(doc.doc_id)
                if known is None:
                    rows[doc.doc_id] = len(rows)
                    writer.add(doc.doc_id, doc.text, source.place("docs", number))
                    counts["empty documents"] += not doc.text
    counts["documents"] = len(rows)
    if len(rows) == counts["empty documents"]:
        raise CollectionError(f"{different[0].ref}: no document has a text")
    _log_counts(different[0].ref, "docs", counts)
    return rows, writer.digest


def _read_qrels(
    source: Source, doc_rows: Mapping[str, int], counts: Counter[str], *, may_lack: bool = False
) -> dict[str, dict[int, int]]:
    """query id -> doc row -> grade; judgements of unknown documents are counted, contradictions are errors."""
    qrels: dict[str, dict[int, int]] = {}
    example = ""
    for number, qrel in source.qrels():
        counts["qrels"] += 1
        row = doc_rows.get(qrel.doc_id)
        if row is None:
            counts["qrels of unknown documents"] += 1
            example = example or f"{qrel.doc_id} ({source.place('qrels', number)})"
            continue
        grades = qrels.setdefault(qrel.query_id, {})
        if grades.get(row, qrel.relevance) != qrel.relevance:
            raise CollectionError(
                f"{source.place('qrels', number)}: query {qrel.query_id}, document {qrel.doc_id} is judged "
                f"{qrel.relevance}, before it was judged {grades[row]}; keep one"
            )
        counts["qrels given twice"] += row in grades
        grades[row] = qrel.relevance
    if not qrels and not (may_lack and not counts["qrels"]):
        found = f"of {counts['qrels']} judgements none names a known document, the first is {example}"
        raise CollectionError(f"{source.ref}: {found if example else 'has no qrels'}")
    if example:
        _log.warning("%s: the first unknown document in qrels is %s", source.ref, example)
    return qrels


def _read_queries(
    source: Source, qrels: Mapping[str, Mapping[int, int]], counts: Counter[str], *, keep_all: bool = False
) -> list[Query]:
    """The queries that have a text and a positive (or not, with `keep_all`); the others are counted by their lack."""
    seen: set[str] = set()
    kept: list[Query] = []
    for number, query in source.queries():
        if query.query_id in seen:
            raise CollectionError(
                f"{source.place('queries', number)}: query {query.query_id} stands there twice; keep one"
            )
        seen.add(query.query_id)
        if not query.text:
            counts["empty queries"] += 1
            continue
        lacks = None
        if query.query_id not in qrels:
            lacks = "queries without qrels"
        elif max(qrels[query.query_id].values()) <= 0:
            lacks = "queries without positives"
        if lacks is None or keep_all:
            kept.append(query)
        if lacks is not None:
            counts["unlabelled queries kept" if keep_all else lacks] += 1
    unknown = [query_id for query_id in qrels if query_id not in seen]
    counts["qrels of unknown queries"] = sum(len(qrels[query_id]) for query_id in unknown)
    if qrels and len(unknown) == len(qrels):
        raise CollectionError(f"{source.ref}: its qrels name no known query, for example {unknown[0]}")
    if not kept:
        raise CollectionError(f"{source.ref}: no query has a text and a document judged above 0")
    return kept


def _choose(queries: list[Query], limit: int | None, seed: int) -> list[Query]:
    """The first `limit` queries of a keyed permutation, in the order of the source."""
    if limit is None or limit >= len(queries):
        return queries
    permuted = sorted(queries, key=lambda query: hashlib.sha256(f"{seed}\0{query.query_id}".encode()).digest())
    chosen = {query.query_id for query in permuted[:limit]}
    return [query for query in queries if query.query_id in chosen]


def _write_queries(
    folder: Path, split: str, queries: Sequence[Query], qrels: Mapping[str, Mapping[int, int]], counts: Counter[str]
) -> str:
    """Queries and their qrels by row; returns the digest of the queries."""
    with _text_writer(folder / f"queries.{split}.arrow") as writer:
        for query in queries:
            writer.add(query.query_id, query.text, f"query {query.query_id}")
    rows = [
        {"query_row": query_row, "doc_row": doc_row, "relevance": grade}
        for query_row, query in enumerate(queries)
        for doc_row, grade in sorted(qrels.get(query.query_id, {}).items())
    ]
    counts["qrels kept"] = len(rows)
    counts["positives"] = sum(row["relevance"] > 0 for row in rows)
    with pa.ipc.new_file(str(folder / f"qrels.{split}.arrow"), QREL_SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(rows, schema=QREL_SCHEMA))
    return writer.digest


class _TextWriter:
    def __init__(self, stream: pa.RecordBatchFileWriter) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._ids: list[str] = []
        self._texts: list[str] = []
        self.hashes = bytearray()

    def add(self, text_id: str, text: str, place: str) -> None:
        if text_id.split() != [text_id]:
            raise CollectionError(
                f"{place}: the id {text_id!r} is empty or has white space, at which TREC files are split; rename it"
            )
        try:
            for part in (text_id.encode(), text.encode()):
                self._hash.update(len(part).to_bytes(8, "little") + part)
        except UnicodeEncodeError:
            raise CollectionError(
                f"{place}: {text_id!r} has a lone surrogate, which is no character; mend it"
            ) from None
        self._ids.append(text_id)
        self._texts.append(text)
        self.hashes += text_hash(text).encode()
        if len(self._ids) == _BATCH:
            self.flush()

    def flush(self) -> None:
        self._stream.write_batch(pa.record_batch([self._ids, self._texts], schema=TEXT_SCHEMA))
        self._ids, self._texts = [], []

    def hash_of(self, row: int) -> str:
        return self.hashes[row * HASH.itemsize : (row + 1) * HASH.itemsize].decode()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:32]


@contextmanager
def _text_writer(path: Path) -> Iterator[_TextWriter]:
    with pa.ipc.new_file(str(path), TEXT_SCHEMA) as stream:
        writer = _TextWriter(stream)
        yield writer
        writer.flush()
    np.save(hash_file(path), np.frombuffer(writer.hashes, HASH))


_SKIPS = (
    "empty documents",
    "empty queries",
    "queries without qrels",
    "queries without positives",
    "qrels of unknown documents",
    "qrels of unknown queries",
    "qrels given twice",
)


def _log_counts(ref: str, part: str, counts: Mapping[str, int]) -> None:
    for reason in _SKIPS:
        if counts.get(reason):
            fate = "kept, but no search finds them" if reason == "empty documents" else "skipped"
            _log.warning("%s (%s): %d %s, %s", ref, part, counts[reason], reason, fate)
