"""The best configuration against the recipe's own values: what was measured, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stillhouse.evaluation.report import finite
from stillhouse.evaluation.significance import Comparison

BEST, DEFAULT = "best values", "default values"


@dataclass(frozen=True)
class Confirmation:
    """Both configurations trained with the same seeds for the recipe's whole training, measured once on test."""

    measure: str
    """The one that was searched for and is tested."""
    ground: str
    """Reference of the test collection."""
    seeds: list[int]
    test: dict[str, dict[str, list[float]]]
    """Configuration -> measure -> mean over the queries, one for each seed."""
    dev: dict[str, list[float]]
    """Configuration -> the tested measure on dev, one for each seed."""
    comparison: Comparison
    """Paired over queries: a query's value is its mean over the seeds."""
    same: bool = False
    """Whether both configurations are one and the same training."""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        tree: dict[str, Any] = finite(asdict(self))
        return tree


def from_plain(tree: Mapping[str, Any]) -> Confirmation:
    """A confirmation read from JSON; an interval without an end is open."""
    test = dict(tree["comparison"])
    test["ci_low"] = -float("inf") if test["ci_low"] is None else test["ci_low"]
    test["ci_high"] = float("inf") if test["ci_high"] is None else test["ci_high"]
    return Confirmation(**{**tree, "comparison": Comparison(**test)})
