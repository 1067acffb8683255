"""Score what a store lacks, with a pool of actors under Ray Data."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data.exceptions import ExecutionTimeoutError

from stillhouse.artifacts import stable_hash
from stillhouse.collection import Collection
from stillhouse.collection.tokens import token_ids
from stillhouse.errors import StoreError
from stillhouse.rankers import Ranker, load_ranker
from stillhouse.scores.actor import Outcome, Scorer, ShardScorer
from stillhouse.scores.attempts import Attempts
from stillhouse.scores.files import address_of, os_error_told, patience_of
from stillhouse.scores.identity import Device, Dtype, identity_of, resolve_dtype
from stillhouse.scores.journal import Journal
from stillhouse.scores.parity import TOLERANCE, check_parity
from stillhouse.scores.placement import Placement, here, local_device, place, scoring_device
from stillhouse.scores.plan import LARGEST, Plan, Shard, make_plan, pairs_per_shard
from stillhouse.scores.store import ScoreStore
from stillhouse.scores.tally import Progress, ScoreReport, Tally
from stillhouse.spread import spread

logger = logging.getLogger(__name__)

NO_PROGRESS_S = 3600.0
"""A pipeline in which no shard starts or ends for this long is stopped."""
_SHOWN_ERRORS = 3


def score_pairs(
    store: ScoreStore,
    ranker_path: Path | str,
    collection: Collection,
    split_name: str,
    pairs: pa.Table,
    *,
    dtype: Dtype = "auto",
    num_actors: int | None = None,
    progress: Progress | None = None,
    shard_size: int | None = None,
    max_tries: int = 3,
    parity_check: int = 0,
    parity_tolerance: float = TOLERANCE,
) -> ScoreReport:
    """Score the pairs (query_row, doc_row: int32) that the store lacks; the rest cost a look-up.

    Ray is connected by the caller; store, ranker and collection lie where every node sees them. Whatever is killed,
    the same call again scores at most the shards that were in flight. Raises StoreError for a pair without a finite
    score, for a shard that ended its actor `max_tries` times, and where the store cannot be written; finished shards
    are kept. A corrupt file is set aside, and its pairs count as missing. `num_actors=0` scores in this process,
    without Ray. `parity_check` pairs are first scored in float32 on this CPU as well (`scores/parity.py`).
    """
    with os_errors_told(store):
        start = time.perf_counter()
        device = local_device() if num_actors == 0 else scoring_device()
        queries, docs = collection.splits[split_name].queries, collection.docs
        store.create()
        store.mending = True
        size = shard_size or LARGEST[device]
        plan = make_plan(store, queries, docs, pairs, size)
        if not plan.shards:
            store.commit()
            seconds = time.perf_counter() - start
            return ScoreReport(0, plan.total, 0.0, 0.0, seconds, set_aside=tuple(store.set_aside))
        ranker = _prepare(store, ranker_path, collection, split_name, dtype, device)
        wanted = shard_size or pairs_per_shard(ranker, device)
        if wanted != size:
            plan = make_plan(store, queries, docs, pairs, wanted)
        placement = here() if num_actors == 0 else place(num_actors, len(plan.shards))
        arguments = _addresses(store, ranker_path, collection) | {
            "split_name": split_name,
            "dtype": resolve_dtype(dtype, device),
            "device": device,
            "threads": placement.threads,
            "max_tries": max_tries,
            "actors": max(1, placement.actors),
        }
        facts = arguments | {"collection": collection.digest, "actors": placement.actors}
        if parity_check:
            parity = check_parity(plan, parity_check, arguments | {"job": "parity"}, placement, parity_tolerance)
            logger.info("parity: %s", parity)
            facts["parity"] = parity.facts()
        tally = Tally(plan, progress, tuple(store.set_aside))
        journal = Journal(store.path, facts)
        run_plan(store, plan, arguments | {"job": journal.job}, placement, journal, tally)
        return tally.report(time.perf_counter() - start, parity if parity_check else None)


def _addresses(store: ScoreStore, ranker_path: Path | str, collection: Collection) -> dict[str, Any]:
    """Where an actor finds things: its working directory is another one."""
    return {
        "store_path": address_of(store.path),
        "patience_s": patience_of(store.path),
        # What is no folder here is a hub name.
        "ranker_path": str(Path(ranker_path).resolve() if Path(ranker_path).exists() else ranker_path),
        "collection_path": str(collection.path.resolve()),
    }


def run_plan(
    store: ScoreStore,
    plan: Plan,
    arguments: dict[str, Any],
    placement: Placement,
    journal: Journal,
    tally: Tally,
    scorer: type[Scorer] = ShardScorer,
) -> None:
    """Score the plan's shards; what there is stands in manifest and journal, however it ends."""
    try:
        with closing(_outcomes(plan.shards, arguments, placement, scorer)) as outcomes:
            for outcome in outcomes:
                tally.add(outcome)
                journal.update(tally.facts())
        if tally.errors:
            raise StoreError(_describe(store, tally.errors))
    except BaseException:
        # What stopped the job says more than a disk that is too full to note it, or a storage that is away.
        with suppress(OSError, StoreError):
            journal.end("failed", tally.facts())
            store.commit()
        raise
    finally:
        with suppress(OSError, StoreError):
            Attempts(store.path, journal.job, arguments["max_tries"]).remove()
    store.check_partitions()
    journal.end("finished", tally.facts())
    store.commit()


@contextmanager
def os_errors_told(store: ScoreStore) -> Iterator[None]:
    """A full disk or a folder that cannot be written, as one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(os_error_told(error, store.path)) from error


def _prepare(
    store: ScoreStore, ranker_path: Path | str, collection: Collection, split_name: str, dtype: Dtype, device: Device
) -> Ranker:
    """The teacher, which is the store's; texts are tokenised once, before many actors ask for it."""
    ranker = load_ranker(ranker_path)
    key = stable_hash(identity_of(ranker, dtype, device))
    if key != store.key:
        raise StoreError(
            f"store {store.key}: belongs to another teacher than {ranker_path} on {device} ({key}); "
            "open the store with identity_of that ranker"
        )
    root = collection.path.parent.parent
    token_ids(collection.docs, ranker.reader("doc"), root)
    token_ids(collection.splits[split_name].queries, ranker.reader("query"), root)
    return ranker


def _outcomes(
    shards: list[Shard], arguments: dict[str, Any], placement: Placement, scorer: type[Scorer]
) -> Generator[Outcome]:
    """The shards' outcomes as they come."""
    items = (
        {
            "partition": shard.partition,
            "generation": shard.generation,
            "query_rows": shard.query_rows.tobytes(),
            "doc_rows": shard.doc_rows.tobytes(),
        }
        for shard in shards
    )
    if not placement.actors:
        yield from map(scorer(**arguments), items)
        return
    outcomes = spread(
        items,
        scorer,
        arguments,
        actors=placement.actors,
        num_cpus=placement.num_cpus,
        num_gpus=placement.num_gpus,
        no_progress_s=NO_PROGRESS_S,
        grows=placement.grows,
    )
    try:
        yield from outcomes
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        raise StoreError(f"scoring stopped: {_first_line(error)}") from error


def _describe(store: ScoreStore, errors: list[str]) -> str:
    shown = "; ".join(errors[:_SHOWN_ERRORS])
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    return f"store {store.key}: {len(errors)} of its shards not scored, the rest is kept: {shown}{more}"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
