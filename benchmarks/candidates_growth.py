"""BM25 over 10 k, 100 k and 1 M documents: does indexing one document, or its memory, grow?

    python -m benchmarks.candidates_growth [--small | --sizes 10000,100000,1000000]

Synthetic documents of 8 to 24 words. Each size is a process of its own; `--small` tries it and writes no result.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.growth import Growth, Measured
from benchmarks.memory import Watch, apart, private_bytes
from benchmarks.worlds import write_collection

QUERIES = 200


def measure(size: int) -> Measured:
    """Seconds of the index with ten queries, then of the others; memory above the start, in bytes."""
    from stillhouse.candidates import bm25, candidates_for
    from stillhouse.recipe.tree import CandidatesSpec

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        collection = apart(write_collection, root, size, QUERIES)
        bm25.tokenise(["what is loaded at its first use is no part of the growth"])
        before = private_bytes()
        with Watch(every_s=0.02) as watch:
            start = time.perf_counter()
            candidates_for(CandidatesSpec(depth=100), collection, "dev", root)
            indexed = time.perf_counter()
            found = candidates_for(CandidatesSpec(depth=100), collection, "train", root)
            ended = time.perf_counter()
        assert len(found) == QUERIES
        return {
            "seconds": indexed - start,
            "grown_bytes": watch.own - before,
            "columns": {"milliseconds a query": (ended - indexed) / QUERIES * 1e3, "pairs": found.facts["pairs"]},
        }


GROWTH = Growth(
    name="candidates_growth",
    question="Candidates: growth of BM25 from 10 thousand to a million documents",
    about=f"Synthetic documents of 8 to 24 words out of 30,000; seconds to index them and rank ten queries, then the "
    f"time of one of {QUERIES} queries more, which reads the postings of its words and grows with the documents. "
    "Memory is above that of the process before.",
    item="document",
    sizes=(10_000, 100_000, 1_000_000),
    small=(1_000, 2_000, 4_000),
    measure=measure,
    memory={"grown_bytes": "MiB more than before"},
    packages=("bm25s", "PyStemmer", "pyarrow", "numpy"),
    flat=False,
)

if __name__ == "__main__":
    GROWTH.main()
