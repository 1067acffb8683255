"""Who scored what, when, with which versions: one JSON file per job, kept apart from the scores."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from stillhouse.scores.files import Place, put_json

FOLDER = "jobs"
_LIBRARIES = ("stillhouse", "torch", "transformers", "tokenizers", "ray", "pyarrow", "numpy")


class Journal:
    """The record of one scoring job: written at its start, as it goes and at its end."""

    def __init__(self, store_path: Place, facts: dict[str, Any]) -> None:
        self._start = time.monotonic()
        self._written = 0.0
        now = datetime.now(UTC)
        self.job = f"{now:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}"
        self.path = store_path / FOLDER / f"{self.job}.json"
        self.facts: dict[str, Any] = {
            **facts,
            "job": self.job,
            "state": "running",
            "started": now.isoformat(timespec="seconds"),
            "host": platform.node(),
            "pid": os.getpid(),
            "user": _user(),
            "versions": {name: _version(name) for name in _LIBRARIES},
        }
        self._write()

    def update(self, facts: dict[str, Any]) -> None:
        """Note progress, at most every ten seconds."""
        self.facts.update(facts)
        if time.monotonic() - self._written > 10:
            self._write()

    def end(self, state: str, facts: dict[str, Any]) -> None:
        self.facts.update(facts, state=state)
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        self.facts["seconds"] = round(self._written - self._start, 3)
        put_json(self.path, self.facts)


def read_jobs(store_path: Place) -> list[dict[str, Any]]:
    """The jobs of a store, oldest first; a killed one still says `running`."""
    return [json.loads(path.read_text()) for path in sorted((store_path / FOLDER).glob("*.json"))]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        return str(os.getuid())


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
