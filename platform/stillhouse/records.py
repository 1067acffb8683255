"""The records that cross module borders, and the Arrow schemas of what is written, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

Run = dict[str, dict[str, float]]
"""A TREC run: query_id -> doc_id -> score."""


class Query(NamedTuple):
    query_id: str
    text: str


class Doc(NamedTuple):
    doc_id: str
    text: str


class Qrel(NamedTuple):
    query_id: str
    doc_id: str
    relevance: int


class ScoredDoc(NamedTuple):
    query_id: str
    doc_id: str
    score: float


@dataclass(frozen=True)
class Group:
    """One query with its documents: the unit of training.

    `teacher_K` is NaN where the teacher did not score the pair; `label_K` is the qrels grade, 0 for the rest.
    """

    query_row: int
    doc_rows_K: np.ndarray
    label_K: np.ndarray
    teacher_K: np.ndarray
    removed: int = 0
    """Possible negatives that were left out as likely positives."""


SCORE_SCHEMA = pa.schema(
    [
        ("query_hash", pa.string()),
        ("doc_hash", pa.string()),
        ("query_id", pa.string()),
        ("doc_id", pa.string()),
        ("score", pa.float32()),
        ("num_tokens", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)
"""One teacher score of one (query, document) pair; the hashes identify the texts (see `text_hash`)."""

TEXT_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
"""Documents or queries of a materialised collection; the row number is the position."""

QREL_SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32()), ("relevance", pa.int32())])

CANDIDATE_SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32()), ("score", pa.float32())])
"""Candidates of one split, sorted by query_row, then best first."""
