"""What the rows say together about each pair, query and document; contradictions are errors that name both places."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.errors import FormatError
from stillhouse.imports.format import Place
from stillhouse.imports.row import Passage

ROUNDING = 1e-3
"""A public triple file scores a positive once per line, in another batch each time: the last digits differ."""


@dataclass(slots=True)
class Pair:
    grade: int | None
    score: float | None
    rank: int | None
    place: str


def pair_line(query_id: str, doc_id: str, passage: Passage, place: Place) -> str:
    grade = "" if passage.grade is None else passage.grade
    score = "" if passage.score is None else passage.score
    rank = "" if passage.rank is None else passage.rank
    return f"{query_id}\t{doc_id}\t{grade}\t{score}\t{rank}\t{place[0]}:{place[1]}"


def merge_pairs(lines: Iterable[str], paths: Sequence[Path]) -> dict[str, dict[str, Pair]]:
    """query_id -> doc_id -> what is known: the highest grade, the first score, the best rank.

    Raises FormatError for two scores of a pair that differ by more than rounding.
    """
    found: dict[str, dict[str, Pair]] = {}
    for line in lines:
        query_id, doc_id, grade_text, score_text, rank_text, place = line.split("\t")
        grade, rank = int(grade_text) if grade_text else None, int(rank_text) if rank_text else None
        score = float(score_text) if score_text else None
        docs = found.setdefault(query_id, {})
        pair = docs.get(doc_id)
        if pair is None:
            docs[doc_id] = Pair(grade, score, rank, place)
            continue
        pair.grade = grade if pair.grade is None else pair.grade if grade is None else max(grade, pair.grade)
        pair.rank = rank if pair.rank is None else pair.rank if rank is None else min(rank, pair.rank)
        if pair.score is None or score is None:
            pair.score = score if pair.score is None else pair.score
            # The place is that of the score, which a contradiction names.
            pair.place = place if score is not None else pair.place
        elif not math.isclose(pair.score, score, rel_tol=ROUNDING, abs_tol=ROUNDING):
            raise FormatError(
                f"{where(place, paths)}: expected one score of query {query_id}, document {doc_id}, got {score:.9g} "
                f"after {pair.score:.9g} at {where(pair.place, paths)}; keep one"
            )
    return found


def text_line(text_id: str, title: str, text: str, place: Place) -> str:
    return json.dumps([text_id, title, text, f"{place.file}:{place.line}"])


def merge_texts(lines: Iterable[str], kind: str, paths: Sequence[Path]) -> dict[str, tuple[str, str]]:
    """id -> (title, text), each once. Raises FormatError for an id with two texts."""
    found: dict[str, tuple[str, str]] = {}
    places: dict[str, str] = {}
    for line in lines:
        text_id, title, text, place = json.loads(line)
        known = found.setdefault(text_id, (title, text))
        first = places.setdefault(text_id, place)
        if known != (title, text):
            raise FormatError(
                f"{where(place, paths)}: expected {kind} {text_id} to have one text, got another than at "
                f"{where(first, paths)}; --by-text names {kind}s by their texts instead"
            )
    return found


def where(place: str | Place, paths: Sequence[Path]) -> str:
    """`file:line`."""
    file, line = place.split(":") if isinstance(place, str) else place
    return f"{paths[int(file)]}:{line}"
