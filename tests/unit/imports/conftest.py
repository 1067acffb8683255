"""Files as the publishers write them, at toy size."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.imports import FORMATS
from stillhouse.imports.convert import Made, Options, convert
from tests.unit.cli.conftest import call

__all__ = ["call"]


def jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(made: Made, kind: str) -> list[str]:
    """The lines of a file that was made."""
    return gzip.decompress((made.folder / made.files[kind]).read_bytes()).decode().splitlines()


def rows(made: Made, kind: str) -> list[dict[str, Any]]:
    return sorted((json.loads(line) for line in read(made, kind)), key=lambda row: str(sorted(row.items())))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Import files by the name of their format."""

    def run(name: str, *paths: Path, folder: str = "made", **options: Any) -> Made:
        return convert(name, FORMATS[name], paths, tmp_path / folder, Options(**options))

    return run


@pytest.fixture
def rlhn_rows() -> list[dict[str, Any]]:
    """Two queries of `rlhn/rlhn-680K`; the second has a hard negative relabelled as positive."""
    return [
        {
            "query_id": "fc1d2e",
            "query": "Who wrote the ferry at dusk?",
            "positive_passages": [{"docid": "9#0", "text": "The Ferry at Dusk is by Ada Moor.", "title": "The Ferry"}],
            "negative_passages": [
                {"docid": "4#1", "text": "A ferry crosses the strait.", "title": "Ferries"},
                {"docid": "7#0", "text": "Ada Moor was born in Caf\u00e9 Row.", "title": "Ada Moor"},
                {"docid": "2#2", "text": "Dusk follows sunset.", "title": ""},
            ],
            "subset": "hotpotqa",
        },
        {
            "query_id": "0ab9",
            "query": "when does dusk begin",
            "positive_passages": [
                {"docid": "2#2", "text": "Dusk follows sunset.", "title": ""},
                {"docid": "5#0", "text": "Civil dusk begins at six degrees.", "title": "Dusk"},
            ],
            "negative_passages": [{"docid": "4#1", "text": "A ferry crosses the strait.", "title": "Ferries"}],
            "subset": "msmarco",
        },
    ]
