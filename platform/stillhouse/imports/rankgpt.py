"""RankGPT's training data (Sun et al. 2023): `marco-train-100k.jsonl`, permutations `marco-train-100k-gpt3.5.json`.

The first file has per line `query`, `positive_passages`, `retrieved_passages` (docid, text), the second one answer per
line of the first, best first: `"[2] > [1] > [3]"`, or numbers. Only the order means something; the score is 1/rank, as
RankGPT trains on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

from stillhouse.errors import FormatError
from stillhouse.imports.files import Files
from stillhouse.imports.format import Format, Place, Raw
from stillhouse.imports.passages import passage, query_id
from stillhouse.imports.row import MalformedError, Row, field_of, filled, items, json_object


def read(files: Files) -> Iterator[Raw]:
    """(row, answer) of the two files; the line is that of the row."""
    if len(files.paths) != 2:
        raise FormatError(
            f"rankgpt: {len(files.paths)} files; expected two: the queries' .jsonl and the permutations' .json"
        )
    data, permutations = files.paths
    pairs = zip_longest(files.objects(data), files.objects(permutations), fillvalue=None)
    for row, answer in pairs:
        if row is None or answer is None:
            longer, (line, _) = (permutations, answer) if row is None else (data, row)  # type: ignore[misc]
            raise FormatError(f"{longer}:{line}: expected as many permutations as queries, got more here than there")
        yield Place(0, row[0]), (row[1], answer[1])


def parse(raw: tuple[object, object]) -> Row:
    row = json_object(raw[0])
    retrieved = items(field_of(row, "retrieved_passages"), "retrieved_passages")
    ranks = {number: rank for rank, number in enumerate(_order(raw[1], len(retrieved)))}
    passages = [
        passage(item, "positive_passages[]", grade=1)
        for item in items(row.get("positive_passages", []), "positive_passages")
    ]
    passages += [
        passage(item, "retrieved_passages[]", score=1 / (ranks[number] + 1), rank=number)
        for number, item in enumerate(retrieved)
    ]
    return Row(query_id(row), tuple(passages), filled(field_of(row, "query"), "query"))


def _order(answer: object, count: int) -> list[int]:
    """Which passage, from 0, stands first, second, ..."""
    numbers = [int(digits) for digits in re.findall(r"\d+", answer)] if isinstance(answer, str) else answer
    expected = f"a permutation of 1 to {count}"
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise MalformedError(expected, answer)
    if sorted(numbers) != list(range(1, count + 1)):
        raise MalformedError(expected, answer)
    return [number - 1 for number in numbers]


FORMAT = Format(
    "RankGPT, two files: JSONL (query, positive_passages, retrieved_passages) and JSON permutations",
    read,
    parse,
    texts=True,
    scales=("order",),
)
