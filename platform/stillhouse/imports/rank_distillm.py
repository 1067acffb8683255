"""Rank-DistiLLM (Schlatt et al., arXiv 2405.07920): ColBERTv2's passages, ranked by an LLM or a cross-encoder.

Parquet of `webis/rank-distillm` with `qid`, `docno`, `score`; the TREC runs of Zenodo; lists `query_id`, `doc_ids`,
best first, as sentence-transformers publishes RankZephyr's and RankGPT-4's. RankZephyr gives an order, and its scores
count ranks; monoELECTRA and Set-Encoder give logits.
"""

from __future__ import annotations

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.row import MalformedError, Passage, Row, field_of, identifier, items, json_object, score


def parse(raw: object) -> Row:
    if isinstance(raw, str) and not raw.lstrip().startswith("{"):
        return _run_line(raw)
    row = json_object(raw)
    query = identifier(field_of(row, "qid", "query_id"), "query_id")
    if "doc_ids" in row:
        ids = [identifier(item, "doc_ids[]") for item in items(row["doc_ids"], "doc_ids")]
        return Row(query, tuple(Passage(doc, score=1 / (rank + 1), rank=rank) for rank, doc in enumerate(ids)))
    doc = identifier(field_of(row, "docno", "doc_id"), "doc_id")
    return Row(query, (Passage(doc, score=score(field_of(row, "score"), "score"), rank=0),))


def _run_line(line: str) -> Row:
    fields = line.split()
    if len(fields) != 6:
        raise MalformedError("6 columns: query Q0 document rank score tag", line)
    return Row(fields[0], (Passage(fields[2], score=score(fields[4], "score"), rank=0),))


FORMAT = Format(
    "Rank-DistiLLM, Parquet (qid, docno, score, or query_id, doc_ids) or TREC run",
    each_file("objects"),
    parse,
    scales=("order", "logit"),
    ranked_by="score",
)
