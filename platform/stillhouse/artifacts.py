"""Things on disk that appear complete or not at all, under names made from what they depend on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

DONE = "done.json"
HOST = re.sub(r"\W", "-", socket.gethostname())


def stable_hash(value: Any, length: int = 16) -> str:
    """Hex digest of a JSON-able value; equal for equal values on every machine and run."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def text_hash(text: str) -> str:
    """Identity of a query or document text: 128 bits of SHA-256, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write JSON so that a reader never sees half of it; unsorted where the order of keys means something."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=sort_keys, ensure_ascii=False) + "\n")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write; it takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def built_once(path: Path, build: Callable[[Path], dict[str, Any] | None]) -> dict[str, Any]:
    """`cached_folder` where processes of one node may ask at the same time: one builds, the others wait for it."""
    if not (path / DONE).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            # Given back by the system when a process dies. A file system without locks builds twice, to the same end.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            return cached_folder(path, build)
    return cached_folder(path, build)


def cached_folder(path: Path, build: Callable[[Path], dict[str, Any] | None]) -> dict[str, Any]:
    """The facts of a finished folder: read from `done.json`, or built aside, then renamed into place.

    `build(folder)` fills an empty folder and returns JSON-able facts. A killed build leaves only a temporary
    folder, removed by the next one that takes its turn.
    """
    done = path / DONE
    if done.exists():
        facts: dict[str, Any] = json.loads(done.read_text())
        return facts
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        facts = build(temporary) or {}
        write_json(temporary / DONE, facts)
        _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return facts


def _remove_stale(path: Path) -> None:
    """Delete the temporary folders of builds of `path` on this host whose process is gone."""
    for stale in path.parent.glob(f".{path.name}.{HOST}.*.tmp"):
        pid = stale.name.split(".")[-3]
        if pid.isdigit() and not psutil.pid_exists(int(pid)) and stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    if path.exists() and not (path / DONE).exists():
        shutil.rmtree(path)
    try:
        os.rename(temporary, path)
    except OSError:
        # Another process finished the same build first; both hold the same content.
        if not (path / DONE).exists():
            raise
