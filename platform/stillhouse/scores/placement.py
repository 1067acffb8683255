"""How many scoring actors a cluster carries, and what each may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ray
import torch

from stillhouse.errors import StoreError
from stillhouse.scores.identity import Device

_ACTORS_PER_NODE = 8
"""On CPUs; a machine with more cores gives each actor more threads, since every actor holds the teacher's weights."""


@dataclass(frozen=True)
class Placement:
    actors: int
    num_cpus: float
    num_gpus: float
    threads: int
    """Torch threads of one actor."""
    grows: bool = False
    """Whether nodes that join later get actors too."""


def scoring_device() -> Device:
    """`cuda` if the connected cluster has GPUs."""
    _check_connected()
    return "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"


def local_device() -> Device:
    """`cuda` if this process sees a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def here() -> Placement:
    """No actor: this process, with the threads it has."""
    return Placement(actors=0, num_cpus=0, num_gpus=0, threads=torch.get_num_threads())


def place(num_actors: int | None, shards: int) -> Placement:
    """Actors for that many shards; None takes what the cluster has, and what joins it.

    At least one CPU, or half of what is free on a busy cluster, stays for Ray Data's own tasks: with all CPUs held by
    actors a pipeline waits for itself forever.
    """
    _check_connected()
    total, free = ray.cluster_resources(), ray.available_resources()
    cpus, gpus = total.get("CPU", 0), total.get("GPU", 0)
    free_cpus = free.get("CPU", 0)
    if not free_cpus:
        raise StoreError(f"cluster: none of its {cpus:g} CPUs is free; wait for the running job or add nodes")
    nodes = sum(node["Alive"] for node in ray.nodes())
    wanted = num_actors or int(gpus) or min(math.floor(cpus), _ACTORS_PER_NODE * nodes)
    threads = max(1, math.floor(cpus / max(1, wanted)))
    actors = max(1, min(wanted, shards))
    share = max(free_cpus - 1, free_cpus / 2) / actors
    # Whole numbers above 1, as Ray wants them. An actor with a GPU asks for one CPU: its node may have few.
    num_cpus = math.floor(share) if share >= 1 else math.floor(share * 1000) / 1000
    num_cpus = min(num_cpus, 1 if gpus else threads)
    num_gpus = gpus / wanted if gpus else 0.0
    return Placement(
        actors=actors,
        num_cpus=num_cpus,
        num_gpus=math.floor(num_gpus) if num_gpus >= 1 else math.floor(num_gpus * 1000) / 1000,
        threads=threads,
        # A new node is filled by what each actor asks for: never with more than two threads a CPU.
        grows=num_actors is None and (bool(gpus) or 2 * num_cpus >= threads),
    )


def _check_connected() -> None:
    if not ray.is_initialized():
        raise StoreError("scoring: no Ray cluster is connected; call ray.init() first, or use the command line")
