"""The actor that asks an endpoint instead of running a ranker: one shard in, one file of scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import text_hash
from stillhouse.collection import Texts, open_collection
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.actor import NoScoreError, Scorer, column
from stillhouse.scores.attempts import Attempts
from stillhouse.scores.client import Client
from stillhouse.scores.files import place_of
from stillhouse.scores.store import ScoreStore


class EndpointScorer(Scorer):
    """Few CPUs, many requests under way."""

    def _load(
        self,
        *,
        store_path: str,
        patience_s: float,
        endpoint: dict[str, Any],
        collection_path: str,
        split_name: str,
        job: str,
        max_tries: int,
    ) -> None:
        self.store = ScoreStore.open(place_of(store_path, patience_s))
        self.attempts = Attempts(self.store.path, job, max_tries)
        self.client = Client(EndpointTeacher.model_validate(endpoint))
        collection = open_collection(Path(collection_path))
        self.query_texts, self.doc_texts = collection.splits[split_name].queries, collection.docs

    def _table(self, query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> pa.Table:
        return ask_shard(self.client, self.query_texts, self.doc_texts, query_rows_P, doc_rows_P)


def ask_shard(
    client: Client, queries: Texts, docs: Texts, query_rows_P: np.ndarray, doc_rows_P: np.ndarray
) -> pa.Table:
    """Rows of SCORE_SCHEMA for the pairs, in their order.

    NoScoreError names the first pair that got no score, says how many did not, and keeps the rows of the others.
    """
    spec = client.spec
    query_P = [queries.text(row) for row in query_rows_P.tolist()]
    doc_P = [docs.text(row) for row in doc_rows_P.tolist()]
    prompts = [
        spec.template.fill(query[: spec.query_max_chars], doc[: spec.doc_max_chars])
        for query, doc in zip(query_P, doc_P, strict=True)
    ]
    answers = client.ask(prompts)
    cut = [
        len(query) > spec.query_max_chars or len(doc) > spec.doc_max_chars
        for query, doc in zip(query_P, doc_P, strict=True)
    ]
    columns = [
        column(query_rows_P, lambda row: text_hash(queries.text(row))),
        column(doc_rows_P, lambda row: text_hash(docs.text(row))),
        column(query_rows_P, queries.ids.__getitem__),
        column(doc_rows_P, docs.ids.__getitem__),
        pa.array([answer.score for answer in answers], pa.float32()),
        pa.array([answer.tokens for answer in answers], pa.int32()),
        pa.array(cut),
    ]
    table = pa.table(columns, schema=SCORE_SCHEMA)
    refused = [number for number, answer in enumerate(answers) if answer.refused]
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} pairs more)" if len(refused) > 1 else ""
        raise NoScoreError(
            f"query {queries.ids[query_rows_P[first]]}, document {docs.ids[doc_rows_P[first]]}: "
            f"{answers[first].refused}{more}",
            table.filter(pa.array([not answer.refused for answer in answers])),
        )
    return table
