"""What Ray, the store and its proofs cost: the scoring pipeline against a plain loop over the same batches.

    python -m benchmarks.scoring_overhead [--small] [--repeats 1]

A teacher of MiniLM's shape with random weights, short texts (so that 100,000 pairs take minutes; long ones would hide
more), float32. The plain loop is one process: open the teacher, score shard after shard with the ranker's own batches,
keep the scores in a list. Both have all cores: one actor with as many threads as the loop. `--small` tries it and
writes no result.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measured import Result, Row, alternate, command_of, hand_in, machine, parser_of, spread, versions
from benchmarks.worlds import MINILM, pairs_of, write_collection, write_teacher

PAIRS, SMALL, DEPTH = 100_000, 1_000, 100
CAPS = {"query_max_length": 4, "doc_max_length": 10}
GOAL = 0.1
DTYPE = "float32"


def main() -> None:
    parser = parser_of(__doc__, "scoring_overhead")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    size = SMALL if arguments.small else PAIRS
    with tempfile.TemporaryDirectory() as place:
        result = measure(Path(place), size, arguments.repeats)
    hand_in(result, arguments)


def measure(root: Path, size: int, repeats: int) -> Result:
    """Seconds of each way, in turn, and whether the scores are the same numbers."""
    import ray
    import torch

    from stillhouse.rankers import load_ranker
    from stillhouse.scores.identity import identity_of
    from stillhouse.scores.pipeline import score_pairs
    from stillhouse.scores.store import ScoreStore

    queries, docs = size // DEPTH, max(DEPTH + 1, size // 10)
    collection = write_collection(root, docs, queries, doc_words=(4, 10), query_words=(2, 4))
    teacher = write_teacher(root / "model", MINILM, **CAPS)
    pairs = pairs_of(queries, docs, DEPTH)
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # The actor has `threads` threads by `torch.set_num_threads`; a smaller bound from outside would hold for both.
    os.environ.pop("OMP_NUM_THREADS", None)
    ray.init(num_cpus=threads, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    stores: list[ScoreStore] = []
    plain: list[tuple[np.ndarray, ...]] = []

    def pipeline(actors: int | None) -> None:
        store = ScoreStore(root / f"scores-{len(stores)}", identity_of(load_ranker(teacher), DTYPE))
        report = score_pairs(store, teacher, collection, "train", pairs, dtype=DTYPE, num_actors=actors)
        assert report.scored == size
        stores.append(store)

    ways: dict[str, Any] = {
        "plain loop, one process": lambda: plain.append(plain_loop(root, teacher, collection, pairs)),
        "pipeline, one actor": lambda: pipeline(1),
        "pipeline, an actor per core": lambda: pipeline(None),
        "pipeline in this process, without Ray": lambda: pipeline(0),
    }
    seconds = alternate(ways, repeats)
    ray.shutdown()
    check_equal(collection, *plain[0], stores)
    base = statistics.median(seconds["plain loop, one process"])
    rows = []
    for name, times in seconds.items():
        middle = statistics.median(times)
        goal = middle / base <= 1 + GOAL if name == "pipeline, one actor" else None
        spread_of = spread(times) if len(times) > 1 else None
        values = {"seconds": middle, "pairs/s": size / middle}
        rows.append(Row(name=name, values=values, ratio=middle / base, spread=spread_of, reached=goal, raw=times))
    return Result(
        question="Scoring: what Ray and the store cost",
        about=f"{size:,} pairs of about 14 tokens, a cross-encoder of MiniLM's shape with random weights, float32. All "
        "ways open the teacher, read the same token ids and score the same shards in the same batches; the pipeline "
        "also plans, starts its actors, hashes texts, writes the store and its manifest. The ratio is seconds by "
        "those of the plain loop; the scores were compared and are equal to 1e-4.",
        goal=f"one actor takes at most {GOAL:.0%} longer than a plain loop with as many threads",
        command=command_of("scoring_overhead"),
        machine=machine(threads),
        versions=versions("torch", "transformers", "ray", "pyarrow", "numpy"),
        rows=rows,
        pairs=size,
    )


def plain_loop(root: Path, teacher: Path, collection: Any, pairs: Any) -> tuple[np.ndarray, ...]:
    """What a person would write: the same shards and batches, no Ray, no store; query rows, doc rows, scores."""
    from stillhouse.collection.tokens import token_ids
    from stillhouse.rankers import load_ranker
    from stillhouse.rankers.batching import TOKEN_BUDGET

    ranker = load_ranker(teacher)
    queries = collection.splits["train"].queries
    query_ids = token_ids(queries, ranker.reader("query"), root)
    doc_ids = token_ids(collection.docs, ranker.reader("doc"), root)
    found, shards = [], shards_of(root, ranker, collection, pairs)
    for query_rows, doc_rows in shards:
        starts = np.flatnonzero(np.diff(query_rows, prepend=-1)).tolist()
        stops = [*starts[1:], len(query_rows)]
        score_QK = ranker.score_tokens(
            [query_ids[query_rows[start]] for start in starts],
            [[doc_ids[row] for row in doc_rows[start:stop]] for start, stop in zip(starts, stops, strict=True)],
            token_budget=TOKEN_BUDGET["cpu"],
        )
        found += [score_QK[row, : stop - start] for row, (start, stop) in enumerate(zip(starts, stops, strict=True))]
    return *(np.concatenate(column) for column in zip(*shards, strict=True)), np.concatenate(found)


def shards_of(root: Path, ranker: Any, collection: Any, pairs: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pipeline's own cut."""
    from stillhouse.scores.identity import identity_of
    from stillhouse.scores.plan import make_plan, pairs_per_shard
    from stillhouse.scores.store import ScoreStore

    empty = ScoreStore(root / "empty", identity_of(ranker, DTYPE))
    size = pairs_per_shard(ranker, "cpu")
    plan = make_plan(empty, collection.splits["train"].queries, collection.docs, pairs, size)
    return [(shard.query_rows, shard.doc_rows) for shard in plan.shards]


def check_equal(
    collection: Any, query_rows: np.ndarray, doc_rows: np.ndarray, scores: np.ndarray, stores: Sequence[Any]
) -> None:
    """Every store holds the loop's score of each pair."""
    queries, docs = collection.splits["train"].queries.hashes, collection.docs.hashes
    for store in stores:
        stored = store.lookup(queries.digits[query_rows], docs.digits[doc_rows])
        np.testing.assert_allclose(stored, scores, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main()
