"""A folder as a collection: `corpus.jsonl`, `queries.<split>.jsonl` and `qrels.<split>.tsv`, each plain or `.gz`.

Documents have `doc_id`, `text` and perhaps `title`, queries `query_id` and `text`; qrels are TREC lines
`query 0 document grade`. Title and text are joined by a newline.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from stillhouse.artifacts import file_digest
from stillhouse.collection.text_files import read_jsonl, read_lines
from stillhouse.errors import CollectionError
from stillhouse.records import Doc, Qrel, Query

_INT32 = range(-(2**31), 2**31)


class FolderSource:
    """One split of a folder; see `collection.source.Source`."""

    def __init__(
        self, folder: Path, split: str, *, ref: str | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        self.ref = ref or f"{folder}/{split}"
        self.folder = folder
        self.paths = {
            "docs": find_file(folder, "corpus.jsonl"),
            "queries": find_file(folder, f"queries.{split}.jsonl"),
            "qrels": find_file(folder, f"qrels.{split}.tsv"),
        }
        self.docs_key = str(self.paths["docs"].resolve())
        self._facts = facts or {}

    def identity(self) -> dict[str, Any]:
        return {kind: _digest(path) for kind, path in self.paths.items()}

    def facts(self) -> dict[str, Any]:
        return self._facts

    def docs(self) -> Iterator[tuple[int, Doc]]:
        for number, row in read_jsonl(self.paths["docs"], ("doc_id", "text")):
            title = row.get("title") or ""
            if not isinstance(title, str):
                raise CollectionError(f"{self.place('docs', number)}: title is {title!r}; expected a string")
            parts = (part for part in (title.strip(), row["text"].strip()) if part)
            yield number, Doc(row["doc_id"], "\n".join(parts))

    def queries(self) -> Iterator[tuple[int, Query]]:
        for number, row in read_jsonl(self.paths["queries"], ("query_id", "text")):
            yield number, Query(row["query_id"], row["text"].strip())

    def qrels(self) -> Iterator[tuple[int, Qrel]]:
        for number, line in read_lines(self.paths["qrels"]):
            fields = line.split("\t") if "\t" in line else line.split()
            try:
                query_id, _, doc_id, grade = fields
                relevance = int(grade)
            except ValueError:
                raise CollectionError(
                    f"{self.place('qrels', number)}: found {line[:80]!r}; "
                    "expected four columns: query 0 document grade (an integer)"
                ) from None
            if relevance not in _INT32:
                raise CollectionError(f"{self.place('qrels', number)}: grade {relevance} is out of range")
            yield number, Qrel(query_id, doc_id, relevance)

    def place(self, kind: str, number: int) -> str:
        return f"{self.paths[kind]}, line {number}"


def is_collection(folder: Path) -> bool:
    """Whether a folder holds a corpus file."""
    return any((folder / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))


def find_file(folder: Path, name: str) -> Path:
    """`name` or `name.gz` in a folder; CollectionError says what is there instead."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = sorted(path.name for path in folder.glob(f"{name.split('.')[0]}.*"))
    raise CollectionError(
        f"{folder}: no {name} or {name}.gz" + (f"; found {', '.join(there)}" if there else "") + "; "
        "a folder holds corpus.jsonl, queries.<split>.jsonl, qrels.<split>.tsv, and FOLDER/<split> names one split"
    )


def _digest(path: Path) -> str:
    stat = path.stat()
    return _known_digest(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache
def _known_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Read once in a process: the splits share a corpus of perhaps gigabytes."""
    return file_digest(path)
