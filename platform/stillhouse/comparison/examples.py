"""The queries on which two rankers differ most: texts, both tops, and where the relevant documents stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillhouse.comparison.entrants import Entrant, Ground
from stillhouse.evaluation.differences import Difference, RankedText, differences
from stillhouse.evaluation.report import SystemResult
from stillhouse.evaluation.trec import ranked
from stillhouse.records import Run

QUERIES = 5
TOP = 3
MOST_RELEVANT = 3
MOST_CHARACTERS = 280


@dataclass(frozen=True)
class Placed:
    """A relevant document and its ranks in the two runs; None: not in the run."""

    doc_id: str
    grade: int
    text: str
    rank_a: int | None
    rank_b: int | None


@dataclass(frozen=True)
class Example:
    """A query, what each ranker put on top, and the relevant documents, the highest grade first."""

    difference: Difference
    relevant: tuple[Placed, ...]


def examples(ground: Ground, a: Entrant, b: Entrant, results: Sequence[SystemResult]) -> list[Example]:
    """The queries that differ most on the first measure; texts are cut to what is read at a glance."""
    values = {one.name: next(iter(one.per_query.values())) for one in results}
    known = ground.collection.splits[ground.split].queries.row_of
    kept = [{query: value for query, value in values[one.name].items() if query in known} for one in (a, b)]
    runs = [_known(one.run, ground.collection.docs.row_of) for one in (a, b)]
    found = differences(
        kept[0], kept[1], ground.collection, ground.split, QUERIES, run_a=runs[0], run_b=runs[1], top=TOP
    )
    return [
        Example(
            Difference(
                one.query_id, cut(one.query), one.value_a, one.value_b, _cut_all(one.top_a), _cut_all(one.top_b)
            ),
            _relevant(ground, one.query_id, runs[0], runs[1]),
        )
        for one in found
    ]


def cut(text: str) -> str:
    """The text on one line, at most MOST_CHARACTERS long."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 3].rstrip()}..."


def _cut_all(top: Sequence[RankedText]) -> tuple[RankedText, ...]:
    return tuple(RankedText(one.rank, one.doc_id, one.grade, cut(one.text)) for one in top)


def _known(run: Run, rows: Mapping[str, int]) -> Run:
    return {query: {doc: score for doc, score in scores.items() if doc in rows} for query, scores in run.items()}


def _relevant(ground: Ground, query_id: str, run_a: Run, run_b: Run) -> tuple[Placed, ...]:
    docs = ground.collection.docs
    grades = {doc: grade for doc, grade in ground.qrels[query_id].items() if grade > 0}
    best = sorted(grades, key=lambda doc: (-grades[doc], doc))[:MOST_RELEVANT]
    ranks = [{doc: rank for rank, doc in enumerate(ranked(run.get(query_id, {})), start=1)} for run in (run_a, run_b)]
    return tuple(
        Placed(
            doc,
            grades[doc],
            cut(docs.text(docs.row_of[doc])) if doc in docs.row_of else "(not in the collection)",
            ranks[0].get(doc),
            ranks[1].get(doc),
        )
        for doc in best
    )
