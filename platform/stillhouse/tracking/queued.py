"""A tracker that does not wait: what a server that is down cannot take now is sent when it is back."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillhouse.errors import TrackingError
from stillhouse.tracking.base import Dataset, Point, Status, Tracker
from stillhouse.tracking.mlflow_tracker import UnreachableError
from stillhouse.tracking.views import View

PATIENCE_S = 900.0
PAUSES_S = (0.5, 1.0, 2.0, 5.0)


class QueuedTracker:
    """Hands everything to `inner` in order, from a thread of its own; no call blocks or raises because of an outage.

    `run` gives a handle; `delivered(handle)` is the run's id once all that was said about the run has arrived.
    Artifacts are read when they are sent: leave them where they are until then.
    """

    def __init__(self, inner: Tracker) -> None:
        self.inner = inner
        self._work: queue.SimpleQueue[tuple[str, Callable[[], None]]] = queue.SimpleQueue()
        self._ids: dict[str, str] = {}
        self._points: dict[str, list[Point]] = {}
        self._waiting: dict[str, int] = {}
        self._lock = threading.Lock()
        self._problem: TrackingError | None = None
        self._outage: str | None = None
        threading.Thread(target=self._send_for_ever, name="tracker-queue", daemon=True).start()

    def run(self, key: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """A handle of the run that will be found or created."""
        handle = f"queued:{key}"

        def find() -> None:
            self._ids[handle] = self.inner.run(key, name, parent=self._id(parent) if parent else None, tags=tags)

        self._put(handle, find)
        return handle

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log parameters."""
        self._put(run_id, lambda: self.inner.params(self._id(run_id), params))

    def points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points of curves; those of one run that wait are sent together."""
        if points:
            with self._lock:
                self._points.setdefault(run_id, []).extend(points)
            self._put(run_id, lambda: self._send_points(run_id))

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a file or folder."""
        self._put(run_id, lambda: self.inner.artifact(self._id(run_id), path, folder))

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._put(run_id, lambda: self.inner.tag(self._id(run_id), tags))

    def datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Say what the run reads."""
        if datasets:
            self._put(run_id, lambda: self.inner.datasets(self._id(run_id), datasets))

    def note(self, run_id: str, text: str) -> None:
        """Set the run's description."""
        self._put(run_id, lambda: self.inner.note(self._id(run_id), text))

    def view(self, view: View) -> None:
        """Keep a view."""
        self._put(view.key, lambda: self.inner.view(view))

    def end(self, run_id: str, status: Status = "FINISHED", tags: Mapping[str, str] | None = None) -> None:
        """Close the run."""
        self._put(run_id, lambda: self.inner.end(self._id(run_id), status, tags))

    def delivered(self, run_id: str) -> str | None:
        """The id of the run behind a handle, if nothing about it is waiting."""
        with self._lock:
            return self._ids.get(run_id) if not self._waiting.get(run_id) else None

    def flush(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all has arrived. Raises TrackingError if the store is down for longer, or refused something."""
        until = time.monotonic() + patience_s
        while any(self._waiting.values()):
            if time.monotonic() > until:
                count = sum(self._waiting.values())
                raise TrackingError(
                    f"{self._outage or 'MLflow is slow'}; {count} entries wait: run the same command again"
                )
            time.sleep(0.02)
        if self._problem is not None:
            raise self._problem

    def _send_points(self, run_id: str) -> None:
        with self._lock:
            batch = list(self._points[run_id])
        if batch:
            self.inner.points(self._id(run_id), batch)
            with self._lock:
                del self._points[run_id][: len(batch)]

    def _id(self, run_id: str) -> str:
        return self._ids.get(run_id, run_id)

    def _put(self, run_id: str, work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting[run_id] = self._waiting.get(run_id, 0) + 1
        self._work.put((run_id, work))

    def _send_for_ever(self) -> None:
        while True:
            run_id, work = self._work.get()
            self._send(work)
            with self._lock:
                self._waiting[run_id] -= 1

    def _send(self, work: Callable[[], None]) -> None:
        for attempt in range(10**9):
            try:
                work()
                self._outage = None
                return
            except UnreachableError as error:
                if self._outage is None:
                    logging.getLogger(__name__).warning("%s; trials go on, their record is sent later", error)
                self._outage = str(error)
                time.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
            except Exception as error:  # refused for good: said at the end, the rest of the record is still sent
                line = TrackingError(f"the record is not complete: {error}")
                self._problem = self._problem or line
                return
