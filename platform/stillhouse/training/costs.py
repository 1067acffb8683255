"""What a student costs, measured where its training ends: time, size and storage, for a search that weighs them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.evaluation.cost import DOCS_STORED, stored_bytes
from stillhouse.evaluation.latency import latency_of_tokens
from stillhouse.rankers import mlm_head

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker
    from stillhouse.training.job import TrainingData

DOCUMENTS = 1000
"""Documents that one query is measured with; all of a smaller collection."""
REPEATS = 3, 20
"""Least and most timed repeats."""
BUDGET_S = 20.0
"""Time of the repeats together, beyond the least number."""


def measure_costs(ranker: Ranker, data: TrainingData) -> dict[str, float]:
    """Costs of the ranker in this process, with its threads and its dtype, warm.

    `latency_ms`: median time of one query with 1,000 documents (see `workload`) from token ids to scores, nothing
    cached; `latency_p95_ms` is the 95th percentile of the same repeats, so that noise can be seen: trials that run
    side by side slow each other. `latency_cached_ms`, where documents can be encoded before: the same without that.
    `latency_documents`, `latency_threads`: how it was taken. `parameters`: all of the ranker. `bytes_per_doc`: mean
    size of a document's representation, where the architecture has one.
    """
    query, docs = workload(data)
    started = time.perf_counter()
    ranker.score_tokens([query], [docs])
    once = time.perf_counter() - started
    repeats = int(np.clip(BUDGET_S / once, *REPEATS))
    timed = latency_of_tokens(ranker, query, docs, repeats, warmup=1)
    costs = {
        "latency_ms": timed.median_ms,
        "latency_p95_ms": timed.p95_ms,
        "latency_cached_ms": timed.cached_median_ms,
        "latency_documents": float(timed.documents),
        "latency_threads": float(timed.threads),
        "parameters": float(_parameters(ranker)),
        "bytes_per_doc": stored_bytes(ranker, docs[:DOCS_STORED]),
    }
    return {name: value for name, value in costs.items() if value is not None}


def workload(data: TrainingData) -> tuple[list[int], list[list[int]]]:
    """Token ids of one query and its documents: the dev query of median length (the first row of equals), and 1,000
    documents drawn evenly from the collection, the same in every trial; all where there are fewer."""
    lengths = data.dev_query_ids.lengths
    row = int(np.argsort(lengths, kind="stable")[(len(lengths) - 1) // 2])
    count = len(data.doc_ids)
    rows = np.linspace(0, count - 1, min(DOCUMENTS, count)).astype(int)
    return data.dev_query_ids[row].tolist(), [data.doc_ids[int(doc)].tolist() for doc in rows]


def _parameters(ranker: Ranker) -> int:
    """Without the masked-language-model head, which no saved ranker has."""
    return sum(
        parameter.numel() for name, parameter in ranker.named_parameters() if not name.startswith(f"{mlm_head.HEAD}.")
    )
