"""How many trials of a fixed size the cluster holds."""

from __future__ import annotations

import time
from collections.abc import Mapping

import ray

from stillhouse.errors import SearchError

WAIT_S = 50.0
"""Time that an autoscaler gets to bring a node."""


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
