"""MS MARCO triples: `query positive negative` by id, as `qidpidtriples.train.full.2.tsv`."""

from __future__ import annotations

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.row import MalformedError, Passage, Row


def parse(line: str) -> Row:
    fields = line.split()
    if len(fields) != 3:
        raise MalformedError("3 ids: query positive negative", line)
    query, positive, negative = fields
    return Row(query, (Passage(positive, grade=1), Passage(negative, rank=0)))


FORMAT = Format(
    "MS MARCO id triples, TSV: query positive negative",
    each_file("lines"),
    parse,
    triples=True,
)
