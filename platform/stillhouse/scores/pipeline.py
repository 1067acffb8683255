"""Score what a store lacks, with a pool of actors under Ray Data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from stillhouse.artifacts import stable_hash
from stillhouse.collection import Collection
from stillhouse.collection.tokens import token_ids
from stillhouse.errors import StillhouseError, StoreError
from stillhouse.rankers import load_ranker
from stillhouse.scores.actor import Outcome, ShardScorer
from stillhouse.scores.attempts import Attempts
from stillhouse.scores.identity import Device, Dtype, identity_of, resolve_dtype
from stillhouse.scores.journal import Journal
from stillhouse.scores.placement import Placement, place, scoring_device
from stillhouse.scores.plan import Plan, Shard, make_plan
from stillhouse.scores.store import ScoreStore

PAIRS_PER_SHARD: dict[Device, int] = {"cpu": 2048, "cuda": 32768}
"""Half a minute of work for a small teacher. Fixed per device, since the batches, and so the last bits, follow it."""
NO_PROGRESS_S = 3600.0
"""A pipeline in which no shard starts or ends for this long is stopped."""
_SHOWN_ERRORS = 3


class Progress(Protocol):
    def __call__(self, done_pairs: int, total_pairs: int, info: dict[str, Any], /) -> None:
        """`info`: pairs_per_second, eta_seconds, truncated_share, actors (name -> pairs per second)."""


@dataclass(frozen=True)
class ScoreReport:
    scored: int
    reused: int
    pairs_per_second: float
    truncated_share: float
    """Share of the scored pairs of which the teacher read only a part."""
    seconds: float
    duplicated: int = 0
    """Pairs that another job scored at the same time; they stand in the store once."""


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
    pairs_per_shard: int | None = None,
    max_tries: int = 3,
) -> ScoreReport:
    """Score the pairs (query_row, doc_row: int32) that the store lacks; the rest cost a look-up.

    Ray is connected by the caller; store, ranker and collection lie where every node sees them. Whatever is killed,
    the same call again scores at most the shards that were in flight. Raises StoreError for a pair without a finite
    score, for a shard that ended its actor `max_tries` times, and where the store cannot be written; finished shards
    are kept.
    """
    start = time.perf_counter()
    device = scoring_device()
    split = collection.splits[split_name]
    store.create()
    plan = make_plan(store, split.queries, collection.docs, pairs, pairs_per_shard or PAIRS_PER_SHARD[device])
    if not plan.shards:
        store.commit()
        return ScoreReport(0, plan.total, 0.0, 0.0, time.perf_counter() - start)
    _prepare(store, ranker_path, collection, split_name, dtype, device)
    placement = place(num_actors, len(plan.shards))
    facts = {"collection": collection.digest, "split": split_name, "ranker": str(ranker_path), "pairs": plan.total}
    journal = Journal(store.path, facts | {"actors": placement.actors, "threads": placement.threads})
    arguments = {
        "store_path": str(store.path.resolve()),
        "ranker_path": str(ranker_path),
        "collection_path": str(collection.path.resolve()),
        "split_name": split_name,
        "dtype": resolve_dtype(dtype, device),
        "device": device,
        "threads": placement.threads,
        "job": journal.job,
        "max_tries": max_tries,
    }
    tally = _Tally(plan, progress)
    try:
        for outcome in _outcomes(plan.shards, arguments, placement):
            tally.add(outcome)
            journal.update(tally.facts())
    except BaseException:
        journal.end("failed", tally.facts())
        raise
    finally:
        store.commit()
        Attempts(store.path, journal.job, max_tries).remove()
    journal.end("failed" if tally.errors else "finished", tally.facts())
    if tally.errors:
        raise StoreError(_describe(store, tally.errors))
    return tally.report(time.perf_counter() - start)


def _prepare(
    store: ScoreStore, ranker_path: Path | str, collection: Collection, split_name: str, dtype: Dtype, device: Device
) -> None:
    """Refuse another teacher's store, and tokenise once, before many actors ask for it."""
    ranker = load_ranker(ranker_path)
    key = stable_hash(identity_of(ranker, dtype, device))
    if key != store.key:
        raise StoreError(
            f"store {store.key}: belongs to another teacher than {ranker_path} on {device} ({key}); "
            "open the store with identity_of that ranker"
        )
    root = collection.path.parent.parent
    token_ids(collection.docs, ranker, root)
    token_ids(collection.splits[split_name].queries, ranker, root)


def _outcomes(shards: list[Shard], arguments: dict[str, Any], placement: Placement) -> Iterator[Outcome]:
    """The shards' outcomes as they come."""
    items = [
        {
            "partition": shard.partition,
            "generation": shard.generation,
            "query_rows": shard.query_rows.tobytes(),
            "doc_rows": shard.doc_rows.tobytes(),
        }
        for shard in shards
    ]
    with _quiet_context():
        # One shard a block: a block is what an actor takes, and what is tried again when it dies.
        outcomes = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardScorer,
            fn_constructor_kwargs=arguments,
            compute=ActorPoolStrategy(size=placement.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=placement.num_cpus,
            num_gpus=placement.num_gpus or None,
        )
        try:
            yield from outcomes.iter_rows()
        except StillhouseError:
            raise
        except ray.exceptions.RayError as error:
            raise StoreError(f"scoring stopped: {_last_line(error)}") from error


@contextmanager
def _quiet_context() -> Iterator[None]:
    """Ray Data without its own bars and notes, and with an end to waiting."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)


@dataclass
class _Tally:
    """Sums over the outcomes, and the progress they make."""

    plan: Plan
    progress: Progress | None
    scored: int = 0
    found: int = 0
    duplicated: int = 0
    truncated: int = 0
    tokens: int = 0
    actor_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    by_actor: dict[str, tuple[int, float]] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        """Raises StoreError if the other shards would fail as well."""
        if outcome["fatal"]:
            raise StoreError(outcome["error"])
        if outcome["error"]:
            self.errors.append(outcome["error"])
            return
        self.scored += outcome["scored"]
        self.found += outcome["reused"]
        self.duplicated += outcome["duplicated"]
        self.truncated += outcome["truncated"]
        self.tokens += outcome["tokens"]
        self.actor_seconds += outcome["seconds"]
        pairs, seconds = self.by_actor.get(outcome["actor"], (0, 0.0))
        self.by_actor[outcome["actor"]] = (pairs + outcome["scored"], seconds + outcome["seconds"])
        if self.progress:
            self.progress(self.reused + self.scored, self.plan.total, self._info())

    @property
    def reused(self) -> int:
        return self.plan.total - self.plan.missing + self.found

    @property
    def pairs_per_second(self) -> float:
        return self.scored / max(time.perf_counter() - self.start, 1e-9)

    def facts(self) -> dict[str, Any]:
        return {
            "scored": self.scored,
            "reused": self.reused,
            "duplicated": self.duplicated,
            "truncated": self.truncated,
            "tokens": self.tokens,
            "actor_seconds": round(self.actor_seconds, 3),
        }

    def report(self, seconds: float) -> ScoreReport:
        share = self.truncated / self.scored if self.scored else 0.0
        return ScoreReport(self.scored, self.reused, self.pairs_per_second, share, seconds, self.duplicated)

    def _info(self) -> dict[str, Any]:
        left = self.plan.total - self.reused - self.scored
        rate = self.pairs_per_second
        return {
            "pairs_per_second": rate,
            "eta_seconds": left / rate if rate else None,
            "truncated_share": self.truncated / self.scored if self.scored else 0.0,
            "actors": {name: pairs / seconds for name, (pairs, seconds) in self.by_actor.items() if seconds},
        }


def _describe(store: ScoreStore, errors: list[str]) -> str:
    shown = "; ".join(errors[:_SHOWN_ERRORS])
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    return f"store {store.key}: {len(errors)} shards were not scored, the rest is kept: {shown}{more}"


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
