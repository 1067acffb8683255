"""How long one query with its candidates takes, from token ids to scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one query x `documents`, warm, without tokenisation and disk."""

    median_ms: float
    p95_ms: float
    cached_median_ms: float | None
    """With the documents' representations computed before; None where the architecture has none."""
    cached_p95_ms: float | None
    documents: int
    threads: int
    """Of torch, inside one operation."""
    device: str


def latency(ranker: Ranker, query: str, docs: Sequence[str], repeats: int = 20, warmup: int = 3) -> Latency:
    """Time one query against its documents (Hofstaetter et al., Table 1: median, documents cached where possible)."""
    queries, documents = ranker.reader("query").tokenise([query]), ranker.reader("doc").tokenise(list(docs))
    return latency_of_tokens(ranker, queries[0], documents, repeats, warmup)


def latency_of_tokens(
    ranker: Ranker, query: Sequence[int], docs: Sequence[Sequence[int]], repeats: int = 20, warmup: int = 3
) -> Latency:
    """The same for texts that are token ids already."""
    import torch

    queries, documents = [query], [docs]
    median, p95 = _time(lambda: ranker.score_tokens(queries, documents), repeats, warmup)
    cached_median, cached_p95 = None, None
    if ranker.separable:
        apart: Any = ranker
        with ranker.inference():
            doc_reps = apart.encode_docs(documents[0])
            # .cpu() waits for the device, as score_tokens does.
            cached_median, cached_p95 = _time(
                lambda: apart.interact(apart.encode_queries(queries), doc_reps).cpu(), repeats, warmup
            )
    return Latency(median, p95, cached_median, cached_p95, len(docs), torch.get_num_threads(), str(ranker.device))


def _time(call: Callable[[], object], repeats: int, warmup: int) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds."""
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return float(np.median(times)), float(np.percentile(times, 95))
