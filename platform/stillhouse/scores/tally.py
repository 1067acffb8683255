"""What a scoring job has done so far, and what it reports."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from stillhouse.errors import StoreError
from stillhouse.scores.actor import Outcome
from stillhouse.scores.parity import Parity
from stillhouse.scores.plan import Plan


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
    set_aside: tuple[str, ...] = ()
    """Corrupt files met since the store was opened: now `<name>.corrupt`, their pairs scored again where asked for."""
    parity: Parity | None = None
    """What the check before the job found."""


@dataclass
class Tally:
    """Sums over the outcomes, and the progress they make."""

    plan: Plan
    progress: Progress | None
    set_aside: tuple[str, ...] = ()
    scored: int = 0
    found: int = 0
    duplicated: int = 0
    truncated: int = 0
    tokens: int = 0
    actor_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    by_actor: dict[str, tuple[int, float]] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._tell()

    def add(self, outcome: Outcome) -> None:
        """Raises StoreError if the other shards would fail as well."""
        if outcome["fatal"]:
            raise StoreError(outcome["error"])
        if outcome["error"]:
            self.errors.append(outcome["error"])
        self.scored += outcome["scored"]
        self.found += outcome["reused"]
        self.duplicated += outcome["duplicated"]
        self.truncated += outcome["truncated"]
        self.tokens += outcome["tokens"]
        self.actor_seconds += outcome["seconds"]
        pairs, seconds = self.by_actor.get(outcome["actor"], (0, 0.0))
        self.by_actor[outcome["actor"]] = (pairs + outcome["scored"], seconds + outcome["seconds"])
        self._tell()

    def _tell(self) -> None:
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
            "set_aside": list(self.set_aside),
            "truncated": self.truncated,
            "tokens": self.tokens,
            "actor_seconds": round(self.actor_seconds, 3),
            "by_actor": {name: pairs for name, (pairs, _) in sorted(self.by_actor.items())},
        }

    def report(self, seconds: float, parity: Parity | None = None) -> ScoreReport:
        share = self.truncated / self.scored if self.scored else 0.0
        rate, aside = self.pairs_per_second, self.set_aside
        return ScoreReport(self.scored, self.reused, rate, share, seconds, self.duplicated, aside, parity)

    def _info(self) -> dict[str, Any]:
        left = self.plan.total - self.reused - self.scored
        rate = self.pairs_per_second
        return {
            "pairs_per_second": rate,
            "eta_seconds": left / rate if rate else None,
            "truncated_share": self.truncated / self.scored if self.scored else 0.0,
            "actors": {name: pairs / seconds for name, (pairs, seconds) in self.by_actor.items() if seconds},
        }
