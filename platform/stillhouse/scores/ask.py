"""Ask an endpoint for the scores a store lacks: the shards, tries and files of any scoring job, another actor."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from typing import Any

import pyarrow as pa

from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.rankers import load_ranker
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.scores.actor import NoScoreError
from stillhouse.scores.asking import EndpointScorer, ask_shard
from stillhouse.scores.client import Client
from stillhouse.scores.files import address_of, patience_of
from stillhouse.scores.journal import Journal
from stillhouse.scores.parity import TOLERANCE, Parity, compare
from stillhouse.scores.pipeline import os_errors_told, run_plan
from stillhouse.scores.placement import here, place
from stillhouse.scores.plan import Plan, make_plan
from stillhouse.scores.store import ScoreStore
from stillhouse.scores.tally import Progress, ScoreReport, Tally

_SMALLEST, _LARGEST = 64, 2048


def ask_pairs(
    store: ScoreStore,
    spec: EndpointTeacher,
    collection: Collection,
    split_name: str,
    pairs: pa.Table,
    *,
    in_process: bool = False,
    progress: Progress | None = None,
    shard_size: int | None = None,
    max_tries: int = 3,
    parity_check: int = 0,
    parity_tolerance: float = TOLERANCE,
) -> ScoreReport:
    """Ask for the pairs (query_row, doc_row: int32) that the store lacks, with one actor: the limits are the job's.

    As `score_pairs`: whatever is killed, the same call again asks at most for the shard that was in flight. Raises
    StoreError for a pair the endpoint gives no score for, once all others are stored, and for an endpoint that does not
    serve. `in_process` asks in this process, without Ray. `parity_check` pairs are first compared with the ranker
    `spec.compare_with`, in float32 on this CPU.
    """
    with os_errors_told(store):
        start = time.perf_counter()
        queries, docs = collection.splits[split_name].queries, collection.docs
        store.create()
        store.mending = True
        # Some rounds of requests a shard, so that few wait for its last one.
        size = min(_LARGEST, max(_SMALLEST, 4 * spec.concurrency * spec.prompts_per_request))
        plan = make_plan(store, queries, docs, pairs, shard_size or size)
        if not plan.shards:
            store.commit()
            seconds = time.perf_counter() - start
            return ScoreReport(0, plan.total, 0.0, 0.0, seconds, set_aside=tuple(store.set_aside))
        placement = here() if in_process else dataclasses.replace(place(1, 1), num_gpus=0)
        placement = dataclasses.replace(placement, num_cpus=min(placement.num_cpus, 1))
        arguments: dict[str, Any] = {
            "store_path": address_of(store.path),
            "patience_s": patience_of(store.path),
            "endpoint": spec.model_dump(mode="json"),
            "collection_path": str(collection.path.resolve()),
            "split_name": split_name,
            "max_tries": max_tries,
        }
        openai = {"openai": importlib.metadata.version("openai")}
        facts = arguments | openai | {"collection": collection.digest, "actors": placement.actors}
        parity = None
        if parity_check and spec.compare_with is not None:
            parity = _check_parity(plan, parity_check, spec, collection, split_name, parity_tolerance)
            facts["parity"] = parity.facts()
        tally = Tally(plan, progress, tuple(store.set_aside))
        journal = Journal(store.path, facts)
        run_plan(store, plan, arguments | {"job": journal.job}, placement, journal, tally, EndpointScorer)
        return tally.report(time.perf_counter() - start, parity)


def _check_parity(
    plan: Plan, pairs: int, spec: EndpointTeacher, collection: Collection, split_name: str, tolerance: float
) -> Parity:
    """The first pairs of the plan by the endpoint and by the ranker it should equal."""
    assert spec.compare_with is not None
    queries, docs = collection.splits[split_name].queries, collection.docs
    query_rows, doc_rows = plan.first(pairs)
    ranker = load_ranker(spec.compare_with)
    plain = ranker.score(queries.texts(query_rows), [[docs.text(row)] for row in doc_rows.tolist()])[:, 0].numpy()
    try:
        table = ask_shard(Client(spec), queries, docs, query_rows, doc_rows)
    except NoScoreError as error:
        raise StoreError(f"parity check: {error}") from None
    parity = compare(query_rows, plain, table["score"].to_numpy())
    if not parity.relative_difference <= tolerance:
        raise StoreError(
            f"parity check: {spec.model} at {spec.endpoint} is too far from {spec.compare_with}: {parity}; "
            f"{tolerance:.0%} passes: look at the template and its tokens, or raise store.parity_tolerance"
        )
    return parity
