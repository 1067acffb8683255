"""Scoring 10 k, 100 k and 1 M pairs with a tiny teacher through the whole pipeline: does anything grow?

    python -m benchmarks.scoring_growth [--small | --sizes 10000,100000,1000000]

A hundred documents for each query, a tenth as many documents as pairs: queries, collection, token ids and store all
grow with the pairs. Each size is a process of its own with a Ray cluster of its own on all cores. `--small` tries it
and writes no result.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.growth import Growth, Measured
from benchmarks.memory import Watch
from benchmarks.worlds import TINY, pairs_of, write_collection, write_teacher

DEPTH = 100


def measure(size: int) -> Measured:
    """Seconds of the job and the largest memory of driver and actors, in bytes."""
    import ray

    from stillhouse.rankers import load_ranker
    from stillhouse.scores.identity import identity_of
    from stillhouse.scores.pipeline import score_pairs
    from stillhouse.scores.store import ScoreStore

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        queries, docs = max(1, size // DEPTH), max(DEPTH + 1, size // 10)
        collection = write_collection(root, docs, queries)
        teacher = write_teacher(root / "model", TINY, query_max_length=6, doc_max_length=24)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
        store = ScoreStore(root / "scores", identity_of(load_ranker(teacher)))
        with Watch() as watch:

            def progress(done: int, total: int, info: dict[str, Any]) -> None:
                watch.also(int(name.rpartition(":")[2]) for name in info["actors"])

            start = time.perf_counter()
            report = score_pairs(store, teacher, collection, "train", pairs_of(queries, docs, DEPTH), progress=progress)
            seconds = time.perf_counter() - start
        ray.shutdown()
        assert report.scored == queries * DEPTH == len(store)
        stored = sum(Path(str(path)).stat().st_size for path in store.files())
        return {
            "seconds": seconds,
            "driver_bytes": watch.own,
            "actor_bytes": watch.others,
            "columns": {"actors": len(watch.most) - 1, "store bytes a pair": stored / report.scored},
        }


GROWTH = Growth(
    name="scoring_growth",
    question="Scoring: growth from 10 thousand to a million pairs",
    about=f"A tiny cross-encoder of random weights, {DEPTH} documents a query, a tenth as many documents as pairs; "
    "planning, tokenising, scoring by Ray's actors, writing the store and its manifest.",
    item="pair",
    sizes=(10_000, 100_000, 1_000_000),
    small=(2_000, 4_000, 8_000),
    measure=measure,
    memory={"driver_bytes": "driver MiB", "actor_bytes": "largest actor MiB"},
    packages=("torch", "transformers", "ray", "pyarrow", "numpy"),
)

if __name__ == "__main__":
    GROWTH.main()
