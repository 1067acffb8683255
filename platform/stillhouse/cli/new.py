"""`stillhouse new`."""

from __future__ import annotations


def new() -> None:
    """To come."""
