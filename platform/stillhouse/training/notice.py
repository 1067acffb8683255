"""Word that a training's machine is about to be taken away: a checkpoint is written first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stillhouse.errors import TrainingError


class Notice:
    """Nothing is taken away. The loop asks after every step."""

    def given(self) -> bool:
        """Whether a checkpoint is wanted now. Every rank asks equally often, and all get the same answer."""
        return False

    def saved(self, step: int) -> None:
        """The checkpoint that was wanted is complete; may raise to end the training."""


class SigtermNotice(Notice):
    """A training in one process that was asked to end: by a scheduler, a container's host or `job stop`."""

    def __init__(self) -> None:
        self.asked = False

    def given(self) -> bool:
        return self.asked

    def saved(self, step: int) -> None:
        raise TrainingError(f"ended by SIGTERM: the checkpoint of step {step} is kept; the same command goes on there")


@contextmanager
def until_sigterm() -> Iterator[Notice]:
    """SIGTERM becomes a notice inside; only a main thread can ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield Notice()
        return
    notice = SigtermNotice()

    def note(number: int, frame: FrameType | None) -> None:
        notice.asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield notice
    finally:
        signal.signal(signal.SIGTERM, before)
