"""Requests and tokens a minute, kept by waiting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0


class RateLimit:
    """At most `per_minute` units in any minute, over all threads that take them; None sets no limit.

    One request that alone is larger than the limit goes when the window is empty: it would else wait forever.
    """

    def __init__(
        self,
        per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.per_minute = per_minute
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._taken: deque[list[float]] = deque()
        """[time, units] of the last minute, oldest first."""

    def take(self, units: float) -> list[float]:
        """Wait until `units` fit, and take them; `settle` the answer when their true number is known."""
        while True:
            with self._lock:
                now = self._clock()
                wait = self._wait(now, units)
                if wait <= 0:
                    taken = [now, units]
                    if self.per_minute is not None:
                        self._taken.append(taken)
                    return taken
            self._sleep(wait)

    def settle(self, taken: list[float], units: float) -> None:
        """What `take` took was really `units`."""
        with self._lock:
            taken[1] = units

    def _wait(self, now: float, units: float) -> float:
        if self.per_minute is None:
            return 0.0
        while self._taken and self._taken[0][0] <= now - WINDOW_S:
            self._taken.popleft()
        excess = sum(each for _, each in self._taken) + units - self.per_minute
        if excess <= 0 or not self._taken:
            return 0.0
        for when, each in self._taken:
            excess -= each
            if excess <= 0:
                return when + WINDOW_S - now
        return self._taken[-1][0] + WINDOW_S - now
