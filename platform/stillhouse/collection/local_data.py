"""`$STILLHOUSE_DATA/NAME`: collections that come neither with the package nor from ir_datasets, on any machine."""

from __future__ import annotations

import os
from pathlib import Path

from stillhouse.errors import CollectionError

VARIABLE = "STILLHOUSE_DATA"
_PREFIX = f"${VARIABLE}/"
BESIDE = Path(__file__).parents[4] / "shared" / "data"
"""Looked in where the variable is not set: beside the checkout."""


def names_one(ref: str) -> bool:
    return ref.startswith(_PREFIX)


def find(ref: str) -> Path:
    """The path that `$STILLHOUSE_DATA/NAME` or `$STILLHOUSE_DATA/NAME/<split>` stands for."""
    root = Path(os.environ.get(VARIABLE) or BESIDE).expanduser()
    name, _, rest = ref.removeprefix(_PREFIX).partition("/")
    folder = root / name
    if not folder.is_dir():
        raise CollectionError(f"{ref}: no folder {name} in {root}; set {VARIABLE} to the folder that holds it")
    return folder / rest
