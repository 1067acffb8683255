from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.collection import Collection, materialise
from stillhouse.recipe.tree import CollectionSpec


@pytest.fixture
def collect(tmp_path: Path) -> Callable[..., Collection]:
    """A collection of these texts; its three splits hold the same queries, the first document answers each."""

    def make(docs: dict[str, str], queries: dict[str, str], name: str = "texts") -> Collection:
        folder = tmp_path / name
        folder.mkdir()
        _write(folder / "corpus.jsonl", ({"doc_id": key, "text": text} for key, text in docs.items()))
        _write(folder / "queries.all.jsonl", ({"query_id": key, "text": text} for key, text in queries.items()))
        (folder / "qrels.all.tsv").write_text("".join(f"{key}\t0\t{next(iter(docs))}\t1\n" for key in queries))
        ref = f"{folder}/all"
        return materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, tmp_path / "root")

    return make


def _write(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
