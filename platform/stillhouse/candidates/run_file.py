"""Candidates from a TREC run file (`query Q0 document rank score tag`), plain or `.gz`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from stillhouse.collection import local_data
from stillhouse.collection.text_files import read_lines
from stillhouse.errors import CollectionError
from stillhouse.records import ScoredDoc

OR = " or "
BUILT_IN = ("bm25", "scoreddocs")


def source_of(source: str, split_name: str) -> str:
    """What serves a split: of sources joined by ` or ` the first that is built in or has a file for the split.

    Public training lists are runs of the train split alone: `imported/candidates.{split}.trec.gz or bm25`. Raises
    CollectionError for a run that has no file for any split.
    """
    if _path(source, split_name).is_file():
        return source
    choices = [choice.strip() for choice in source.split(OR)]
    for choice in choices[:-1]:
        if choice in BUILT_IN or _path(choice, split_name).is_file():
            return choice
        if not any(_path(choice, name).is_file() for name in ("train", "dev", "test")):
            raise CollectionError(f"candidates.source {source}: {choice} is no file for train, dev or test")
    return choices[-1]


def run_path(source: str, split_name: str) -> Path:
    """The file a recipe's `candidates.source` names for a split: `{split}` is replaced."""
    path = _path(source, split_name)
    if not path.is_file():
        raise CollectionError(
            f"candidates.source {source}: {path} is no file; expected bm25, scoreddocs, or a TREC run, "
            "with {split} in its path where each split has its own"
        )
    return path


def _path(source: str, split_name: str) -> Path:
    path = source.replace("{split}", split_name)
    return local_data.find(path) if local_data.names_one(path) else Path(path).expanduser()


def read_run(path: Path) -> Iterator[tuple[str, ScoredDoc]]:
    """(place, row) of each line. The rank column is not read: as in trec_eval the scores alone order a run."""
    for number, line in read_lines(path):
        place = f"{path}, line {number}"
        try:
            query_id, _, doc_id, _, text, _ = line.split()
            score = float(text)
        except ValueError:
            raise CollectionError(
                f"{place}: found {line[:80]!r}; expected six columns: query Q0 document rank score tag"
            ) from None
        if not math.isfinite(score):
            raise CollectionError(f"{place}: score {text} is not finite")
        yield place, ScoredDoc(query_id, doc_id, score)
