"""Arrays made once from a file and memory-mapped by every process that reads it: a node holds them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.artifacts import built_once, stable_hash

Arrays = dict[str, np.ndarray]


def mapped_arrays(source: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Arrays:
    """The arrays that `make()` reads from `source`, read-only, in memory that processes share.

    They are kept beside the source, named by its size and time of change: a file that is replaced gets its own.
    """
    found = source.stat()
    folder = source.parent / f"{source.name}.mapped" / stable_hash([found.st_size, found.st_mtime_ns])

    def build(target: Path) -> dict[str, Any]:
        arrays = make()
        for name, array in arrays.items():
            np.save(target / f"{name}.npy", array, allow_pickle=False)
        return {"arrays": list(arrays)}

    names = built_once(folder, build)["arrays"]
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
