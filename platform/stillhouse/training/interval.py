"""What happened between two reports of a training: sums over steps, and their means over steps and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stillhouse.errors import TrainingError
from stillhouse.training import diagnostics, ranks


@dataclass
class Interval:
    """What happened since the last report; sums, divided once when reported."""

    steps: int = 0
    empty: int = 0
    """Steps that no query had a document for."""
    taught: int = 0
    """Steps in which at least one query had something to say."""
    queries: float = 0.0
    seconds: float = 0.0
    grad_norm: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    diagnosed: diagnostics.Sums = field(default_factory=dict)
    removed: float | None = None
    """Negatives that were left out on this rank as likely positives; None where no margin is set."""

    def add(self, parts: Iterable[diagnostics.Sums]) -> None:
        """Add the diagnostics of some forwards; kept as one sum, since an interval may hold thousands of steps."""
        self.diagnosed = diagnostics.merge([self.diagnosed, *parts])

    def count(self, queries: int, losses: Mapping[str, float], norm: float, seconds: float) -> None:
        """Add one step; `losses` are those that had something to say, over all ranks."""
        self.steps += 1
        self.taught += bool(losses)
        self.queries += queries
        self.seconds += seconds
        self.grad_norm += norm
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value

    def check(self, stage: str) -> None:
        """TrainingError where none of the steps had anything to teach: the weights are what they were."""
        if self.taught or not (self.steps or self.empty):
            return
        if not self.steps:
            raise TrainingError(
                f"stage {stage}: no query has a document to train on: no positive, candidate or triple; check groups, "
                "qrels and candidates"
            )
        taken = f" (false_negative_margin left {self.removed:,.0f} negatives out)" if self.removed else ""
        raise TrainingError(
            f"stage {stage}: no query had anything to learn from; are there teacher scores and labels?{taken}"
        )

    def means(self) -> dict[str, float]:
        """The sums over all ranks, divided once; every rank calls it."""
        flat = [number for pair in self.diagnosed.values() for number in pair]
        summed = ranks.sum_over_ranks(flat)
        pairs = {name: (summed[2 * i], summed[2 * i + 1]) for i, name in enumerate(self.diagnosed)}
        means = {f"train/{name}": value for name, value in diagnostics.means(pairs).items()}
        steps = max(1, self.steps)
        means |= {f"train/{name}": value / steps for name, value in self.losses.items()}
        if self.removed is not None:
            means["train/false_negatives_removed"] = ranks.sum_over_ranks([self.removed])[0]
        means["train/grad_norm"] = self.grad_norm / steps
        means["train/queries_per_second"] = self.queries / max(self.seconds, 1e-9)
        means["train/step_seconds"] = self.seconds / steps
        return means
