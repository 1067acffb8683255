"""Which process writes a record, and whether it is still there."""

from __future__ import annotations

import os
import socket

import psutil


def this_process() -> str:
    """Host, process id and its start in seconds: a process id that was given out again is another process."""
    return f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}"


def is_gone(process: str) -> bool:
    """Whether a process of this host has ended; of another host nothing is known."""
    host, pid, start = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(pid))
        return abs(int(found.create_time()) - int(start)) > 1 or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
