from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.recipe.tree import CollectionSpec

DOCS = [("d1", "cats purr"), ("d2", "dogs bark"), ("d3", "fish swim")]
QUERIES = {
    "train": [("q1", "which animal purrs"), ("q2", "which animal barks")],
    "dev": [("q3", "which animal swims")],
    "test": [("q4", "who purrs"), ("q5", "who swims")],
}
QRELS = {
    "train": [("q1", "d1", 1), ("q2", "d2", 1), ("q2", "d1", 0)],
    "dev": [("q3", "d3", 2)],
    "test": [("q4", "d1", 1), ("q5", "d3", 1)],
}


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a small collection; each part can be replaced, `raw` replaces a file's bytes."""

    def make(
        name: str = "animals",
        *,
        docs: Any = None,
        queries: Any = None,
        qrels: Any = None,
        raw: Any = None,
        gz: bool = False,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        files: dict[str, bytes] = {"corpus.jsonl": _lines({"doc_id": i, "text": t} for i, t in docs or DOCS)}
        for split, rows in {**QUERIES, **(queries or {})}.items():
            files[f"queries.{split}.jsonl"] = _lines({"query_id": i, "text": t} for i, t in rows)
        for split, rows in {**QRELS, **(qrels or {})}.items():
            files[f"qrels.{split}.tsv"] = "".join(f"{q}\t0\t{d}\t{g}\n" for q, d, g in rows).encode()
        for file, data in {**files, **(raw or {})}.items():
            (folder / (f"{file}.gz" if gz else file)).write_bytes(gzip.compress(data, mtime=0) if gz else data)
        return folder

    return make


def _lines(rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def spec_of() -> Callable[..., CollectionSpec]:
    """The spec that takes all three splits from one folder."""

    def make(folder: Path, **options: Any) -> CollectionSpec:
        return CollectionSpec(**{"train": str(folder), "dev": str(folder), "test": str(folder), **options})

    return make
