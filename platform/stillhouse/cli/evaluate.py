"""`stillhouse evaluate`."""

from __future__ import annotations


def evaluate() -> None:
    """To come."""
