"""Items mapped by a pool of actors under Ray Data, quietly: one item a block."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext


def spread(
    items: Iterable[dict[str, Any]],
    actor: type[Any],
    arguments: dict[str, Any],
    *,
    actors: int,
    num_cpus: float,
    num_gpus: float,
    no_progress_s: float | None = None,
) -> Generator[Any]:
    """What `actor(**arguments)` makes of each item, as it comes.

    `no_progress_s`: end with ExecutionTimeoutError where no item starts or ends for so long; None waits for ever.
    """
    with _quiet(no_progress_s):
        # One item a block: a block is what an actor takes, and what is tried again when it dies.
        listed = list(items)
        blocks = ray.data.from_items(listed, override_num_blocks=len(listed))
        del listed  # Ray has them now
        outcomes = blocks.map(
            actor,
            fn_constructor_kwargs=arguments,
            compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            num_cpus=num_cpus,
            num_gpus=num_gpus or None,
        )
        yield from outcomes.iter_rows()


@contextmanager
def _quiet(no_progress_s: float | None) -> Iterator[None]:
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
            yield
    finally:
        logger.setLevel(level)
