"""The largest memory of processes while they work: their own pages, without mapped files and shared memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import psutil

MIB = 2**20
R = TypeVar("R")


class Watch:
    """Samples this process, and those it is told of, until the block ends.

    A page that many share, as of a mapped file, can be dropped and read again, and counts for none of them.
    """

    def __init__(self, every_s: float = 0.05) -> None:
        self.most: dict[int, int] = {os.getpid(): 0}
        """Process id -> bytes."""
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def also(self, pids: Iterable[int]) -> None:
        """Watch these too."""
        for pid in pids:
            self.most.setdefault(pid, 0)

    @property
    def own(self) -> int:
        """This process's."""
        return self.most[os.getpid()]

    @property
    def others(self) -> int:
        """The largest of the others'; 0 without any."""
        return max((bytes_ for pid, bytes_ in self.most.items() if pid != os.getpid()), default=0)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        for pid in list(self.most):
            try:
                found = private_bytes(pid)
            except psutil.NoSuchProcess:
                continue
            self.most[pid] = max(self.most[pid], found)


def apart(function: Callable[..., R], *arguments: object) -> R:
    """What a function gives, made in a process that is gone afterwards: memory it freed here would be used again."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def private_bytes(pid: int | None = None) -> int:
    """Resident bytes without those of mapped files and shared memory."""
    facts = psutil.Process(pid).memory_info()
    return int(facts.rss - facts.shared)
