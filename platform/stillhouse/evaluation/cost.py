"""What a ranker costs for one query: time, memory and storage, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stillhouse.errors import TrainingError
from stillhouse.evaluation.latency import Latency, latency_of_tokens

if TYPE_CHECKING:
    from stillhouse.rankers import Ranker

SEARCHABLE = ("dual_encoder", "colbert")
"""Architectures whose documents can be found by nearest-neighbour search; the others only re-rank."""
DOCS_STORED = 128
"""Documents that are encoded to see what one of them takes."""


@dataclass(frozen=True)
class Question:
    """What is measured, and how."""

    model: str
    documents: int
    query: str | None = None
    docs: tuple[str, ...] = ()
    """Texts; without a query ids are drawn from the vocabulary, as many as the ranker's caps let through."""
    repeats: int = 20
    warmup: int = 3
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: str = "float32"
    """torch's name of the backbone's weights."""


@dataclass(frozen=True)
class Cost:
    """One row of Table 1 of Hofstaetter et al. (arXiv:2010.02666)."""

    model: str
    ranker: str
    parameters: int
    dtype: str
    latency: Latency
    query_tokens: int
    doc_tokens: float
    """Mean of the documents, cut at the ranker's cap, without special tokens."""
    peak_memory_bytes: int
    """Highest resident memory of the process; on a GPU the highest that torch held there."""
    loaded_memory_bytes: int
    """The same with the weights and before the first score."""
    storage_bytes: float | None
    """Of one document's representation, mean, without padding; None where nothing can be kept."""
    searchable: bool
    """Whether its representations can be searched without candidates."""


def cost(question: Question) -> Cost:
    """Measure one ranker in a fresh process, so that memory is its own. TrainingError where that process dies."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(measure_here, question).result()
        except BrokenProcessPool:
            raise TrainingError(
                f"{question.model}: the process that measured it died, perhaps out of memory; ask for fewer documents"
            ) from None


def measure_here(question: Question) -> Cost:
    """Measure in this process, whose memory so far counts too."""
    import torch

    from stillhouse.rankers import load_ranker

    torch.set_num_threads(question.threads)
    cuda = question.device == "cuda"
    ranker = load_ranker(question.model).for_scoring(getattr(torch, question.dtype)).to(question.device)
    loaded = torch.cuda.memory_allocated() if cuda else _peak_rss()
    query, docs = _tokens(ranker, question)
    timed = latency_of_tokens(ranker, query, docs, question.repeats, question.warmup)
    peak = torch.cuda.max_memory_allocated() if cuda else _peak_rss()
    cap = ranker.spec.doc_max_length
    return Cost(
        model=question.model,
        ranker=ranker.key,
        parameters=sum(parameter.numel() for parameter in ranker.parameters()),
        dtype=question.dtype,
        latency=timed,
        query_tokens=min(len(query), ranker.spec.query_max_length),
        doc_tokens=float(np.mean([min(len(ids), cap) for ids in docs])),
        peak_memory_bytes=int(peak),
        loaded_memory_bytes=int(loaded),
        storage_bytes=stored_bytes(ranker, docs[:DOCS_STORED]),
        searchable=ranker.key in SEARCHABLE,
    )


def stored_bytes(ranker: Ranker, docs: Sequence[Sequence[int]]) -> float | None:
    """Mean bytes of the representation of a document as `encode_docs` gives it, without padding and mask."""
    from stillhouse.rankers.reps import Vectors

    if not ranker.separable:
        return None
    apart: Any = ranker
    with ranker.inference():
        reps = apart.encode_docs(docs)
    if isinstance(reps, Vectors):
        values = reps.values_NLD
        return float(reps.mask_NL.sum()) * values.shape[-1] * values.element_size() / len(docs)
    return float(reps.numel() * reps.element_size() / len(docs))


def _tokens(ranker: Ranker, question: Question) -> tuple[list[int], list[list[int]]]:
    if question.query is not None:
        return ranker.tokenise([question.query])[0], ranker.tokenise(list(question.docs))
    special = set(ranker.tokenizer.all_special_ids)
    ordinary = np.array([number for number in range(len(ranker.tokenizer)) if number not in special])
    rng = np.random.default_rng(0)
    query = rng.choice(ordinary, ranker.spec.query_max_length).tolist()
    return query, rng.choice(ordinary, (question.documents, ranker.spec.doc_max_length)).tolist()


def _peak_rss() -> int:
    """Highest resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
