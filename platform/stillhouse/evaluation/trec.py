"""TREC run files, plain or `.gz`: `query Q0 document rank score tag`."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stillhouse.artifacts import atomic_file
from stillhouse.errors import CollectionError
from stillhouse.records import Run


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Document ids, best first, as trec_eval orders them: by score, ties by document id, both descending.

    trec_eval holds scores in single precision and ignores the rank column, so scores that differ only beyond it tie.
    """
    return sorted(scores, key=lambda doc_id: (np.float32(scores[doc_id]), doc_id), reverse=True)


def read_run(path: Path) -> Run:
    """A run file as query_id -> doc_id -> score; CollectionError names file, line and what was expected."""
    from stillhouse.candidates.run_file import read_run as read_rows  # here: it brings the BM25 library with it

    run: Run = {}
    try:
        for place, row in read_rows(path):
            documents = run.setdefault(row.query_id, {})
            if row.doc_id in documents:
                raise CollectionError(
                    f"{place}: document {row.doc_id} stands twice for query {row.query_id}; keep one line for each pair"
                )
            documents[row.doc_id] = row.score
    except OSError as error:
        raise CollectionError(f"{path}: cannot be read: {error.strerror}") from None
    if not run:
        raise CollectionError(f"{path}: an empty run; expected lines of query Q0 document rank score tag")
    return run


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run so that a reader never sees half of it: queries in their order, best document first, ranks from 1.

    Scores keep all their digits, so reading back gives the same run. Equal runs give equal bytes.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            # No name and no time in the header: they would make equal runs differ.
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                _write_lines(packed, path, run, tag)
        else:
            _write_lines(raw, path, run, tag)


def _write_lines(stream: io.BufferedWriter | gzip.GzipFile, path: Path, run: Run, tag: str) -> None:
    _check_field(path, "tag", tag)
    for query_id, scores in run.items():
        _check_field(path, "query id", query_id)
        for rank, doc_id in enumerate(ranked(scores), start=1):
            _check_field(path, "document id", doc_id)
            score = float(scores[doc_id])
            if not math.isfinite(score):
                raise CollectionError(f"{path}: query {query_id}, document {doc_id}: score {score} is not finite")
            stream.write(f"{query_id} Q0 {doc_id} {rank} {score!r} {tag}\n".encode())


def _check_field(path: Path, what: str, value: str) -> None:
    if value.split() != [value]:
        raise CollectionError(f"{path}: {what} {value!r} cannot stand in a TREC run: it is empty or holds white space")
