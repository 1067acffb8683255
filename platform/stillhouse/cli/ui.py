"""`stillhouse ui`."""

from __future__ import annotations


def ui() -> None:
    """To come."""
