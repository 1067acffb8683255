"""Tevatron's training rows with teacher scores, JSONL, Parquet, or the Arrow that `datasets` saves.

`{query_id, query, positive_passages: [{docid, title, text, score}], negative_passages: [...]}`: a score per passage;
`{query_id, query, passages: [{title, text}], scores: [...]}`: what `annotate_with_teacher` makes, the positive first,
NaN where the teacher gave no score.
"""

from __future__ import annotations

import math
from typing import Any

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.passages import passage, query_id
from stillhouse.imports.row import MalformedError, Passage, Row, field_of, filled, items, json_object, score


def parse(raw: object) -> Row:
    row = json_object(raw)
    passages = _annotated(row) if "passages" in row else judged(row)
    return Row(query_id(row), tuple(passages), filled(field_of(row, "query"), "query"))


def judged(row: dict[str, Any]) -> list[Passage]:
    """Positives, then the negatives in their order, each with its `score` where it has one."""
    positives = items(field_of(row, "positive_passages"), "positive_passages")
    if not positives:
        raise MalformedError("at least one passage in positive_passages", positives)
    found = [passage(item, "positive_passages[]", grade=1, score=_score(item)) for item in positives]
    negatives = items(field_of(row, "negative_passages"), "negative_passages")
    return found + [
        passage(item, "negative_passages[]", score=_score(item), rank=rank) for rank, item in enumerate(negatives)
    ]


def _annotated(row: dict[str, Any]) -> list[Passage]:
    passages, scores = items(row["passages"], "passages"), items(field_of(row, "scores"), "scores")
    if not passages or len(passages) != len(scores):
        raise MalformedError("as many scores as passages, and one at least", f"{len(scores)} for {len(passages)}")
    return [
        passage(item, "passages[]", grade=None if rank else 1, score=_number(value), rank=rank - 1 if rank else None)
        for rank, (item, value) in enumerate(zip(passages, scores, strict=True))
    ]


def _score(item: object) -> float | None:
    return _number(item.get("score")) if isinstance(item, dict) else None


def _number(value: object) -> float | None:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return None if missing else score(value, "score")


FORMAT = Format(
    "Tevatron rows with teacher scores, JSONL or Parquet: positive_passages, negative_passages, or passages and scores",
    each_file("objects"),
    parse,
    texts=True,
    scales=("logit", "probability", "grade", "order"),
)
