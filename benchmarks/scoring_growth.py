"""Scoring 10 k, 100 k and 1 M pairs with a tiny teacher through the whole pipeline: does anything grow?

    python -m benchmarks.scoring_growth [--small | --sizes 10000,100000,1000000]

A hundred documents for each query, a tenth as many documents as pairs: queries, collection, token ids and store all
grow with the pairs. Each size is a process of its own with a Ray cluster of its own on all cores. `--small` tries it
and writes no result.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measured import RESULTS, Result, Row, command_of, machine, versions, write_result
from benchmarks.memory import MIB, Watch
from benchmarks.worlds import TINY, pairs_of, write_collection, write_teacher

SIZES, SMALL = (10_000, 100_000, 1_000_000), (2_000, 4_000, 8_000)
DEPTH = 100
TOLERANCE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--sizes", type=lambda text: tuple(int(size) for size in text.split(",")), default=SIZES)
    parser.add_argument("--output", type=Path, default=RESULTS / "scoring_growth.json")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    sizes = SMALL if arguments.small else arguments.sizes
    result = result_of({size: in_a_process(size) for size in sizes})
    if sizes == SIZES:
        write_result(result, arguments.output)
    else:
        print(*(row.model_dump_json(exclude_defaults=True) for row in result.rows), sep="\n")


def in_a_process(size: int) -> dict[str, Any]:
    """What a fresh process measures."""
    command = [sys.executable, "-m", "benchmarks.scoring_growth", "--measure", str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(size, found, file=sys.stderr)
    return found


def measure(size: int) -> dict[str, Any]:
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
        return {
            "seconds": seconds,
            "driver_bytes": watch.own,
            "actor_bytes": watch.others,
            "actors": len(watch.most) - 1,
            "store_bytes": sum(path.stat().st_size for path in store.files()),
        }


def result_of(found: dict[int, dict[str, Any]]) -> Result:
    """The table: memory against that of the size before the last, and time as the difference between sizes.

    The time of a job is a start (processes, model) and a part that grows; the difference of two jobs has no start.
    """
    rows, before, cost_before = [], None, None
    for size, one in found.items():
        values = {
            "driver MiB": one["driver_bytes"] / MIB,
            "largest actor MiB": one["actor_bytes"] / MIB,
            "seconds": one["seconds"],
            "store bytes a pair": one["store_bytes"] / size,
        }
        last, reached, cost = size == max(found), None, None
        if before is not None:
            cost = (one["seconds"] - found[before]["seconds"]) / (size - before) * 1e6
            values["microseconds a pair more"] = cost
        if last and before is not None and cost is not None and cost_before is not None:
            grown = [one[key] / found[before][key] for key in ("driver_bytes", "actor_bytes")]
            reached = max(grown) <= 1 + TOLERANCE and cost <= (1 + TOLERANCE) * cost_before
        rows.append(Row(name=f"{size:,} pairs", values=values, reached=reached))
        before, cost_before = size, cost
    return Result(
        question="Scoring: growth from 10 thousand to a million pairs",
        about=f"A tiny cross-encoder of random weights, {DEPTH} documents a query, a tenth as many documents as pairs. "
        "Memory is the largest of the process's own pages (mapped files and shared memory not counted), planning "
        "included. The cost of a pair is what the pairs more than in the line above took, so that the start of "
        "processes does not count.",
        goal=f"from 100 thousand pairs to a million, memory of driver and actors grows by at most {TOLERANCE:.0%}, "
        "and so does the cost of a pair",
        command=command_of("scoring_growth"),
        machine=machine(),
        versions=versions("torch", "transformers", "ray", "pyarrow", "numpy"),
        rows=rows,
        measured={str(size): one for size, one in found.items()},
    )


if __name__ == "__main__":
    main()
