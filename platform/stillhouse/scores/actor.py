"""The scoring actor: one shard in, one file of scores and one row of counts out."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import torch

from stillhouse.artifacts import text_hash
from stillhouse.collection import Texts, open_collection
from stillhouse.collection.tokens import TokenIds, token_ids
from stillhouse.errors import StillhouseError
from stillhouse.rankers import load_ranker
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import TOKEN_BUDGET
from stillhouse.rankers.processor import bound_kernel_caches, keep_freed_memory
from stillhouse.records import SCORE_SCHEMA
from stillhouse.scores.attempts import Attempts, process_name
from stillhouse.scores.files import os_error_told, place_of
from stillhouse.scores.generation import generation_of
from stillhouse.scores.identity import Device
from stillhouse.scores.keys import pair_keys
from stillhouse.scores.store import ScoreStore

logger = logging.getLogger(__name__)


class Outcome(TypedDict):
    """What became of one shard."""

    partition: int
    generation: str
    scored: int
    reused: int
    """Pairs another job had written meanwhile."""
    duplicated: int
    """Pairs another job wrote while this one scored them."""
    truncated: int
    tokens: int
    seconds: float
    actor: str
    error: str
    """Empty, or why the shard has no scores."""
    fatal: bool
    """Whether the other shards would fail as well."""


class NoScoreError(Exception):
    """A shard of which pairs cannot be scored, though others can; `kept` has the rows of those that were."""

    def __init__(self, message: str, kept: pa.Table | None = None) -> None:
        super().__init__(message)
        self.kept = kept


class Side(NamedTuple):
    """The queries or the documents: texts and their token ids."""

    texts: Texts
    ids: TokenIds
    max_length: int


class Scorer(ABC):
    """Opens the teacher once and scores shard after shard; Ray Data makes one in every process of the pool."""

    store: ScoreStore
    attempts: Attempts
    query_texts: Texts

    def __init__(self, **arguments: Any) -> None:
        # A failure here would end in Ray's own words, many lines of them; the first shard reports it instead.
        self.failure = ""
        try:
            self._load(**arguments)
        except Exception as error:
            self.failure = _told(error, arguments["store_path"])

    @abstractmethod
    def _load(self, *_: Any, **arguments: Any) -> None:
        """Open store, attempts, texts and teacher."""

    @abstractmethod
    def _table(self, query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> pa.Table:
        """Rows of SCORE_SCHEMA for the pairs of a shard, in their order; NoScoreError where one has no score."""

    def __call__(self, row: dict[str, Any]) -> Outcome:
        """Score one shard (a `plan.Shard` as plain values) and write its file."""
        outcome = Outcome(
            partition=row["partition"],
            generation=row["generation"],
            scored=0,
            reused=0,
            duplicated=0,
            truncated=0,
            tokens=0,
            seconds=0.0,
            actor=process_name(),
            error=self.failure,
            fatal=bool(self.failure),
        )
        if self.failure:
            return outcome
        try:
            self._score(outcome, _rows(row["query_rows"]), _rows(row["doc_rows"]))
        except NoScoreError as error:
            outcome["error"] = str(error)
        except Exception as error:
            outcome["error"], outcome["fatal"] = _told(error, self.store.path), True
        return outcome

    def _score(self, outcome: Outcome, query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> None:
        start = time.perf_counter()
        partition, generation = outcome["partition"], outcome["generation"]
        if self.store.has(partition, generation):
            outcome["reused"] = len(query_rows_P)
            return
        if not self.attempts.begin(generation):
            raise NoScoreError(self._poisoned(partition, generation, query_rows_P))
        table, outcome["error"] = self._answered(query_rows_P, doc_rows_P)
        held = generation
        if outcome["error"]:
            # A file is named by the pairs it holds: under the shard's own name the others would count as scored.
            held = generation_of(pair_keys(table["query_hash"], table["doc_hash"]))
        if self.store.has(partition, held):
            outcome["duplicated"] = len(table)
        self.store.write(partition, held, table)
        self.attempts.end(generation)
        outcome["scored"] = len(table)
        outcome["truncated"] = int(np.count_nonzero(table["truncated"].to_numpy()))
        outcome["tokens"] = int(table["num_tokens"].to_numpy().sum())
        outcome["seconds"] = time.perf_counter() - start

    def _answered(self, query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> tuple[pa.Table, str]:
        """The rows of the pairs that have a score, and what is said of those that have none."""
        try:
            return self._table(query_rows_P, doc_rows_P), ""
        except NoScoreError as error:
            if not error.kept:
                raise NoScoreError(f"{error}; its shard of {len(doc_rows_P)} pairs is not stored") from None
            return error.kept, f"{error}; the other {len(error.kept)} pairs of its shard are stored"

    def _poisoned(self, partition: int, generation: str, query_rows_P: np.ndarray) -> str:
        first, last = self.query_texts.ids[query_rows_P[0]], self.query_texts.ids[query_rows_P[-1]]
        return (
            f"shard part={partition:03d}/gen={generation} ({len(query_rows_P)} pairs, queries {first} to {last}) ended "
            f"its actor {self.attempts.max_tries} times and is set aside"
        )


class ShardScorer(Scorer):
    """Scores with a ranker on this machine."""

    def _load(
        self,
        *,
        store_path: str,
        patience_s: float,
        ranker_path: str,
        collection_path: str,
        split_name: str,
        dtype: str,
        device: Device,
        threads: int,
        job: str,
        max_tries: int,
        actors: int = 1,
    ) -> None:
        torch.set_num_threads(threads)
        if device == "cpu":
            bound_kernel_caches()
            keep_freed_memory()
        self.store = ScoreStore.open(place_of(store_path, patience_s))
        self.attempts = Attempts(self.store.path, job, max_tries)
        with self.attempts.opening(ranker_path, actors):
            self.ranker: Ranker = load_ranker(ranker_path).for_scoring(getattr(torch, dtype)).to(device)
        self.token_budget = TOKEN_BUDGET[device]
        collection = open_collection(Path(collection_path))
        root = Path(collection_path).parent.parent
        queries, docs = collection.splits[split_name].queries, collection.docs
        self.query_texts = queries
        self.queries = Side(
            queries, token_ids(queries, self.ranker.reader("query"), root), self.ranker.spec.query_max_length
        )
        self.docs = Side(docs, token_ids(docs, self.ranker.reader("doc"), root), self.ranker.spec.doc_max_length)

    def _table(self, query_rows_P: np.ndarray, doc_rows_P: np.ndarray) -> pa.Table:
        return score_shard(
            self.ranker, self.queries, self.docs, query_rows_P, doc_rows_P, token_budget=self.token_budget
        )


def score_shard(
    ranker: Ranker, queries: Side, docs: Side, query_rows_P: np.ndarray, doc_rows_P: np.ndarray, *, token_budget: int
) -> pa.Table:
    """Rows of SCORE_SCHEMA for the pairs, in their order; the batches depend on the pairs alone.

    Raises NoScoreError that names the first pair whose score is not finite.
    """
    score_P = np.empty(len(query_rows_P), dtype=np.float32)
    runs = list(_runs(query_rows_P))
    query_ids = [queries.ids[query_rows_P[start]] for start, _ in runs]
    doc_ids = [[docs.ids[row] for row in doc_rows_P[start:stop]] for start, stop in runs]
    score_QK = ranker.score_tokens(query_ids, doc_ids, token_budget=token_budget)
    for number, (start, stop) in enumerate(runs):
        score_P[start:stop] = score_QK[number, : stop - start]
    if not np.isfinite(score_P).all():
        bad = int(np.flatnonzero(~np.isfinite(score_P))[0])
        raise NoScoreError(
            f"query {queries.texts.ids[query_rows_P[bad]]}, document {docs.texts.ids[doc_rows_P[bad]]}: the teacher "
            f"gives {score_P[bad]}"
        )
    query_length_P, doc_length_P = queries.ids.lengths_of(query_rows_P), docs.ids.lengths_of(doc_rows_P)
    num_tokens_P = np.minimum(query_length_P, queries.max_length) + np.minimum(doc_length_P, docs.max_length)
    columns = [
        column(query_rows_P, lambda row: text_hash(queries.texts.text(row))),
        column(doc_rows_P, lambda row: text_hash(docs.texts.text(row))),
        column(query_rows_P, queries.texts.ids.__getitem__),
        column(doc_rows_P, docs.texts.ids.__getitem__),
        pa.array(score_P),
        pa.array(num_tokens_P.astype(np.int32)),
        pa.array((query_length_P > queries.max_length) | (doc_length_P > docs.max_length)),
    ]
    return pa.table(columns, schema=SCORE_SCHEMA)


def _told(error: Exception, place: object) -> str:
    """One line for a failure at a store; the whole of an unforeseen one goes to the actor's log."""
    if isinstance(error, StillhouseError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return os_error_told(error, place)
    logger.exception("scoring failed")
    return f"{type(error).__name__}: {error}"


def _rows(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.int32)


def _runs(query_rows_P: np.ndarray) -> Iterator[tuple[int, int]]:
    """Borders of the stretches of pairs that share a query."""
    starts = np.flatnonzero(np.diff(query_rows_P, prepend=-1))
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(query_rows_P)], strict=True)


def column(rows_P: np.ndarray, value: Callable[[int], str]) -> pa.Array:
    """A string per row, made for the shard's rows alone: an actor never holds what a whole collection would need."""
    different, inverse = np.unique(rows_P, return_inverse=True)
    return pa.array([value(row) for row in different.tolist()], pa.string()).take(pa.array(inverse))
