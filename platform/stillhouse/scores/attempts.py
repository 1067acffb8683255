"""How often a job began each shard, and its teacher, counted on disk: what ends the actor cannot forget it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from stillhouse.errors import StoreError
from stillhouse.scores.files import Place, put, remove_tree

FOLDER = "attempts"
_OPENING = ".opening"


def process_name() -> str:
    """`host:pid` of this process; stands in the file of each try, so that a person can see who died."""
    return f"{platform.node()}:{os.getpid()}"


class Attempts:
    """Tries of one job's shards; another job, also the same command again, counts from zero."""

    def __init__(self, store_path: Place, job: str, max_tries: int) -> None:
        self.folder = store_path / FOLDER / job
        self.max_tries = max_tries

    def begin(self, generation: str) -> bool:
        """Count a try; False, and nothing counted, if the shard has had all of them."""
        tries = len(list(self.folder.glob(f"{generation}.*")))
        if tries >= self.max_tries:
            return False
        put(self.folder / f"{generation}.{tries + 1}", process_name().encode())
        return True

    def end(self, generation: str) -> None:
        """Forget a shard that is finished."""
        for path in self.folder.glob(f"{generation}.*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def opening(self, teacher: str, actors: int) -> Iterator[None]:
        """Count this process as one that opens the teacher; whoever ends inside stays counted.

        Raises StoreError where every actor has so ended `max_tries` times on this machine: the kernel and Ray end
        processes for want of memory without a word, and Ray would start them again for ever.
        """
        host = platform.node()
        names = [path.name.removeprefix(f"{_OPENING}.{host}.") for path in self.folder.glob(f"{_OPENING}.{host}.*")]
        dead = sum(not psutil.pid_exists(int(name)) for name in names)
        if dead >= self.max_tries * actors:
            raise StoreError(
                f"teacher {teacher}: {dead} processes on {host} ended while they opened it, most likely for want of "
                "memory; lower store.actors, or give the nodes more"
            )
        path = self.folder / f"{_OPENING}.{host}.{os.getpid()}"
        put(path, process_name().encode())
        yield
        path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget the job."""
        remove_tree(self.folder)
