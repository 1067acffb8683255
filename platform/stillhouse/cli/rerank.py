"""`stillhouse rerank`."""

from __future__ import annotations


def rerank() -> None:
    """To come."""
