"""Natural Questions as DPR prepared it (Karpukhin et al. 2020): `biencoder-nq-train.json`, `biencoder-nq-dev.json`.

One array of `{question, answers, positive_ctxs, negative_ctxs, hard_negative_ctxs}`, each passage with `title`, `text`,
`score`, `passage_id` (`psg_id` in later files). Queries are numbered from 0 as ir_datasets' `dpr-w100` does, and grades
are its own: 2 for the annotated passage (score 1000), 1 for another that BM25 found and that has the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from stillhouse.imports.files import Files
from stillhouse.imports.format import Format, Raw, each_file
from stillhouse.imports.passages import passage
from stillhouse.imports.row import MalformedError, Passage, Row, field_of, filled, items, json_object

_GOLD = 1000
POOL, POOL_HARD, POOL_RANDOM = 200, 100, 100
"""What a ranker is evaluated on (Menon et al., App. B): positives, 100 of BM25, random ones up to 200 in all."""


def read(files: Files) -> Iterator[Raw]:
    """(number of the question, row)."""
    for number, (place, raw) in enumerate(each_file("objects")(files)):
        yield place, (number, raw)


def parse(raw: tuple[int, object]) -> Row:
    """The candidates are the hard negatives in BM25's order."""
    number, row = raw[0], json_object(raw[1])
    return _row(number, row, _positives(row) + _ranked(_list(row, "hard_negative_ctxs")))


def parse_pool(raw: tuple[int, object]) -> Row:
    """The candidates are the pool, in an order by hash: any other would carry labels into the first stage."""
    number, row = raw[0], json_object(raw[1])
    pool = {_key(one): one for one in _positives(row)}
    for one in _list(row, "hard_negative_ctxs")[:POOL_HARD]:
        pool.setdefault(_key(one), one)
    for one in _list(row, "negative_ctxs")[:POOL_RANDOM]:
        if len(pool) < POOL:
            pool.setdefault(_key(one), one)
    return _row(number, row, _ranked([pool[key] for key in sorted(pool, key=lambda key: _hash(f"{number} {key}"))]))


def _row(number: int, row: dict[str, Any], passages: list[Passage]) -> Row:
    return Row(str(number), tuple(passages), filled(field_of(row, "question"), "question"))


def _positives(row: dict[str, Any]) -> list[Passage]:
    found = items(field_of(row, "positive_ctxs"), "positive_ctxs")
    if not found:
        raise MalformedError("at least one passage in positive_ctxs", found)
    return [passage(item, "positive_ctxs[]", grade=_grade(item)) for item in found]


def _grade(item: object) -> int:
    return 2 if isinstance(item, dict) and item.get("score") == _GOLD else 1


def _list(row: dict[str, Any], field: str) -> list[Passage]:
    return [passage(item, f"{field}[]") for item in items(row.get(field, []), field)]


def _ranked(passages: list[Passage]) -> list[Passage]:
    return [one._replace(rank=rank) for rank, one in enumerate(passages)]


def _key(one: Passage) -> str:
    return one.doc_id or f"{one.title}\n{one.text}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


FORMAT = Format(
    "DPR's Natural Questions, JSON: question, positive_ctxs, hard_negative_ctxs, negative_ctxs",
    read,
    parse,
    parse_pool,
    texts=True,
)
