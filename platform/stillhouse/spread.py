"""Items mapped by a pool of actors under Ray Data, quietly: one item a block."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.util.annotations import RayDeprecationWarning


def spread(
    items: Iterable[dict[str, Any]],
    actor: type[Any],
    arguments: dict[str, Any],
    *,
    actors: int,
    num_cpus: float,
    num_gpus: float,
    no_progress_s: float | None = None,
    grows: bool = False,
) -> Generator[Any]:
    """What `actor(**arguments)` makes of each item, as it comes.

    `no_progress_s`: end with ExecutionTimeoutError where no item starts or ends for so long; None waits for ever.
    `grows`: actors are added, of the same share each, when nodes join; what is free now stays free.
    """
    listed = list(items)
    most = max(actors, len(listed)) if grows else actors
    with _quiet(no_progress_s) as context:
        if grows:
            with warnings.catch_warnings():
                # Its replacement keeps whole nodes out, not a share of each.
                warnings.simplefilter("ignore", RayDeprecationWarning)
                context.execution_options.exclude_resources = _left_free(actors, num_cpus, num_gpus)
        # One item a block: a block is what an actor takes, and what is tried again when it dies.
        blocks = ray.data.from_items(listed, override_num_blocks=len(listed))
        del listed  # Ray has them now
        outcomes = blocks.map(
            actor,
            fn_constructor_kwargs=arguments,
            compute=ActorPoolStrategy(min_size=actors, max_size=most, max_tasks_in_flight_per_actor=2),
            num_cpus=num_cpus,
            num_gpus=num_gpus or None,
        )
        yield from outcomes.iter_rows()


def _left_free(actors: int, num_cpus: float, num_gpus: float) -> ExecutionResources:
    """What the cluster has now beyond those actors: Ray Data then counts only what joins later as its own."""
    total = ray.cluster_resources()
    return ExecutionResources(
        cpu=max(0.0, total.get("CPU", 0.0) - actors * num_cpus), gpu=max(0.0, total.get("GPU", 0.0) - actors * num_gpus)
    )


@contextmanager
def _quiet(no_progress_s: float | None) -> Iterator[DataContext]:
    """Ray Data without its own bars and notes."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if no_progress_s is not None:
        context.execution_no_progress_timeout_s = no_progress_s
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with DataContext.current(context):
            yield context
    finally:
        logger.setLevel(level)
