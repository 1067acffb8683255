"""sentence-transformers' CrossEncoder in a process of its own: nothing that our process sets counts for it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stillhouse.rankers.processor import KERNEL_CACHES

Pairs = Sequence[tuple[str, str]]
_opened: dict[str, Any] = {}


class Peer:
    """A model that waits in its process; what it is asked and answers goes over a pipe, which takes milliseconds."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def predict(self, pairs: Pairs) -> torch.Tensor:
        """Scores, float32."""
        return torch.tensor(self._pool.apply(_predict, (pairs,)))


@contextmanager
def open_peer(folder: Path, dtype: torch.dtype, threads: int) -> Iterator[Peer]:
    """The model of `folder`, opened; its process ends with the block."""
    with multiprocessing.get_context("spawn").Pool(1, _open, (str(folder), dtype, threads)) as pool:
        yield Peer(pool)


def _open(folder: str, dtype: torch.dtype, threads: int) -> None:
    for name in KERNEL_CACHES:
        os.environ.pop(name, None)
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    _opened["model"] = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": dtype}, max_length=256)


def _predict(pairs: Pairs) -> list[float]:
    scores = _opened["model"].predict(pairs, show_progress_bar=False)
    flat: list[float] = torch.as_tensor(scores).float().flatten().tolist()
    return flat
