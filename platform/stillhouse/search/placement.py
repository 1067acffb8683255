"""How many trials of a fixed size the cluster holds, and why one waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune

from stillhouse.errors import SearchError

WAIT_S = 50.0
"""Time that an autoscaler gets to bring a node."""
WAITING_CPU = 0.01
"""Share that a trial takes whose work is done by workers of its own."""

logger = logging.getLogger(__name__)


class SayWhyNoneStarts(tune.Callback):  # type: ignore[misc]
    """Warns when trials wait and none runs: the cluster is large enough, but something else holds it."""

    def __init__(self, resources: Mapping[str, float], wait_s: float = WAIT_S) -> None:
        self.resources, self.wait_s = resources, wait_s
        self.since: float | None = None

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Look at the trials; Tune calls it many times a second."""
        states = {trial.status for trial in trials}
        if "PENDING" not in states or "RUNNING" in states:
            self.since = None
            return
        now = time.monotonic()
        self.since = self.since or now
        if now - self.since >= self.wait_s:
            self.since = now
            free, total = ray.available_resources(), ray.cluster_resources()
            logger.warning(
                "no trial has started for %.0f s: one needs %s; free are %g of %g CPU and %g of %g GPU: what else runs "
                "on the cluster?",
                self.wait_s,
                _words(self.resources),
                *(resources.get(name, 0.0) for name in ("CPU", "GPU") for resources in (free, total)),
            )


def only_waits(resources: Mapping[str, float]) -> bool:
    """Whether trials of this size leave the work to workers of their own."""
    return resources.get("CPU", 0.0) == WAITING_CPU


def room_for(resources: Mapping[str, float], wait_s: float = WAIT_S) -> int:
    """Trials that fit side by side on the cluster's nodes, free or not.

    Raises SearchError, saying what is missing, if not one fits within `wait_s`.
    """
    until = time.monotonic() + wait_s
    while (room := _room(resources)) == 0:
        if time.monotonic() > until:
            raise SearchError(
                f"a trial needs {_words(resources)} on one node, but the nodes have {_nodes()}; "
                "lower what `scale` asks for a worker, or add nodes"
            )
        time.sleep(1.0)
    return room


def _room(resources: Mapping[str, float]) -> int:
    needs = {name: amount for name, amount in resources.items() if amount > 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min((int(node.get(name, 0.0) / amount) for name, amount in needs.items()), default=64) for node in nodes)


def _words(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount > 0)


def _nodes() -> str:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return "; ".join(f"{node.get('CPU', 0.0):g} CPU, {node.get('GPU', 0.0):g} GPU" for node in nodes)
