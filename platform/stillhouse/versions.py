"""The versions that the nodes of a cluster must share. Sent to a cluster as a script that imports only Ray."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

MARK = "stillhouse-versions "
COMPARED = ("Python", "ray", "torch", "transformers", "stillhouse")
SENT_ALONG = "sent along"
"""A node without stillhouse: a job brings its own."""
MISSING = "missing"
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Difference:
    """`breaks`: a job cannot rely on this cluster; otherwise it runs, and not quite as it does here."""

    text: str
    breaks: bool


def versions() -> dict[str, str]:
    """Those of this process; builds (`2.13.0+cu130`) are named too."""
    found = {"Python": platform.python_version()}
    for name in COMPARED[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = SENT_ALONG if name == "stillhouse" else MISSING
    return found


def differences(nodes: Sequence[dict[str, Any]], here: dict[str, str]) -> list[Difference]:
    """What the nodes, head first, have unlike one another, and the head unlike this machine."""
    head = nodes[0]["versions"]
    found = []
    for node in nodes:
        if "error" in node:
            found.append(Difference(f"{node['name']} does not answer: {node['error']}", breaks=True))
            continue
        for name in COMPARED:
            mine = node["versions"][name]
            if mine == MISSING:
                found.append(Difference(f"{node['name']} has no {name}", breaks=True))
            elif head and not _same(mine, head[name]) and head[name] != MISSING:
                found.append(Difference(f"{node['name']} has {name} {mine}, the head {head[name]}", breaks=True))
    for name in COMPARED if head else ():
        if not _same(head[name], here[name]) and MISSING not in (head[name], here[name]):
            # The driver runs on the head: what differs here changes figures at most.
            found.append(Difference(f"the head has {name} {head[name]}, this machine {here[name]}", breaks=False))
    return found


def _same(one: str, other: str) -> bool:
    """Builds of a version count as equal: a head without GPU has another torch than its workers."""
    return SENT_ALONG in (one, other) or one.partition("+")[0] == other.partition("+")[0]


def ask_nodes() -> list[dict[str, Any]]:
    """Every node of the cluster that this job runs on, head first: name, resources, versions or error."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(log_to_driver=False)
    alive = [node for node in ray.nodes() if node["Alive"]]
    alive.sort(key=lambda node: ("node:__internal_head__" not in node["Resources"], node["NodeManagerAddress"]))
    ask = ray.remote(num_cpus=0, max_retries=0)(versions)
    pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in alive]
    answers = [ask.options(scheduling_strategy=strategy).remote() for strategy in pinned]
    ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)
    found = []
    for number, (node, answer) in enumerate(zip(alive, answers, strict=True)):
        amounts = {name: node["Resources"].get(name, 0) for name in ("CPU", "GPU")}
        name = ("head " if number == 0 else "worker ") + node["NodeManagerAddress"]
        row = {"id": node["NodeID"], "name": name, "resources": amounts, "versions": {}}
        try:
            row["versions"] = ray.get(answer, timeout=1)
        except Exception as error:
            row["error"] = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        found.append(row)
    return found


if __name__ == "__main__":
    print(MARK + json.dumps({"host": socket.gethostname(), "nodes": ask_nodes()}), flush=True)
