"""RLHN (Thakur et al. 2025, arXiv 2505.16967), `rlhn/rlhn-680K` and its siblings: relabelled training data with texts.

`{query_id, query, positive_passages: [{docid, text, title}], negative_passages: [...], subset}`; no teacher scores.
"""

from __future__ import annotations

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.passages import query_id
from stillhouse.imports.row import Row, field_of, filled, json_object
from stillhouse.imports.tevatron import judged


def parse(raw: object) -> Row:
    row = json_object(raw)
    passages = tuple(passage._replace(score=None) for passage in judged(row))
    return Row(query_id(row), passages, filled(field_of(row, "query"), "query"))


FORMAT = Format(
    "RLHN rows with texts, JSONL or Parquet: query, positive_passages, negative_passages",
    each_file("objects"),
    parse,
    texts=True,
)
