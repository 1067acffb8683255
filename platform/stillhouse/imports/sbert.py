"""`msmarco-hard-negatives.jsonl.gz` of sentence-transformers: negatives mined by a dozen systems.

`{"qid": 1, "pos": [2], "neg": {"bm25": [3, 4], "msmarco-distilbert-base-tas-b": [...]}}`. Of the two releases one has
ids, the other `{"pid": 3, "ce-score": 4.5}`, scores of cross-encoder/ms-marco-MiniLM-L-6-v2 before a sigmoid.
"""

from __future__ import annotations

from typing import Any

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.row import MalformedError, Passage, Row, field_of, identifier, items, json_object, score


def parse(raw: object) -> Row:
    row = json_object(raw)
    systems = field_of(row, "neg")
    if not isinstance(systems, dict):
        raise MalformedError("neg to be an object {system: [ids]}", systems)
    query = identifier(field_of(row, "qid"), "qid")
    passages = [_passage(item, "pos", 1, None) for item in items(field_of(row, "pos"), "pos")]
    # A table as Parquet has every system in every row; one that found nothing is null there.
    lists = {system: items(found, f"neg.{system}") for system, found in systems.items() if found is not None}
    for system, found in lists.items():
        passages += [_passage(item, f"neg.{system}", None, place) for place, item in enumerate(found)]
    # The first of each system, then the second: which system a document comes from decides nothing.
    passages.sort(key=lambda passage: -1 if passage.rank is None else passage.rank)
    return Row(query, tuple(passages))


def _passage(item: Any, field: str, grade: int | None, rank: int | None) -> Passage:
    if not isinstance(item, dict):
        return Passage(identifier(item, f"{field}[]"), grade, rank=rank)
    scored = item.get("ce-score")
    value = None if scored is None else score(scored, f"{field}[].ce-score")
    return Passage(identifier(field_of(item, "pid"), f"{field}[].pid"), grade, value, rank)


FORMAT = Format(
    "sentence-transformers' MS MARCO hard negatives, JSONL: qid, pos, neg by system, perhaps ce-score",
    each_file("objects"),
    parse,
    scales=("logit",),
)
