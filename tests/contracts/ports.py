"""A port that nothing listens on."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of loopback that the system has just found free; another program may take it before its user does."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
