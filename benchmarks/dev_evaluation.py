"""Dev evaluation inside a training: its share of the time at default settings, and against the same scoring bare.

    python -m benchmarks.dev_evaluation [--small] [--threads 2] [--workspace .stillhouse]

Trains cross-encoder and dual encoder at the recipe's defaults on 1,400 queries of `pydocs` for one epoch's worth of
time: the seconds of a step are measured over some steps and multiplied by the steps of the epoch; so are the four dev
evaluations, each of which is measured. Bare is `score_tokens` of the same pairs by the same weights and dtype.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, versions
from benchmarks.speed_data import DOC_CAP, QUERY_CAP, Data, open_data, training_job
from stillhouse.collection import token_ids
from stillhouse.rankers import load_ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.training.curve import CURVE, read_points
from stillhouse.training.evaluations import EVALUATIONS
from stillhouse.training.run import pick_dtype, run_job

GOAL = 0.05


def main() -> None:
    parser = parser_of(__doc__, "dev_evaluation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workspace", type=Path, default=Path(".stillhouse"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = open_data(options.workspace, small=options.small)
    rows = [row for kind in ("cross_encoder", "dual_encoder") for row in measure(data, kind, 3 if options.small else 8)]
    result = Result(
        question="Dev evaluation inside training",
        command=command_of("dev_evaluation"),
        goal="at most 5 % of the training time at default settings",
        machine=machine(options.threads),
        versions=versions("torch", "transformers"),
        rows=rows,
        about=f"{len(data.collection.splits['train'].queries)} train and "
        f"{len(data.collection.splits['dev'].queries)} dev queries of pydocs, recipe defaults, "
        "4 evaluations of 30 candidates, bfloat16 where native",
    )
    hand_in(result, options)


def measure(data: Data, kind: str, steps: int) -> list[Row]:
    caps = {"query_max_length": QUERY_CAP, "doc_max_length": DOC_CAP}
    ranker = {"ranker": kind, "backbone": "minilm", **caps}
    stage: dict[str, Any] = {"loss": {"name": "contrastive"}, "max_steps": steps, "evaluations": 2}
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place, "checkpoints"), Path(place, "ranker")
        run_job(training_job(data, ranker, stage), folder, lambda metrics, step: None, output)
        ends, evaluations = read_points(folder / CURVE), read_points(folder / EVALUATIONS)
        evaluated = [float(line["train/evaluation_seconds"]) for line in evaluations]
        bare = bare_seconds(data, output)
    middle = {round(line["step"]) for line in evaluations}
    times = [line["time"] for line in ends]
    # The step after an evaluation began with it.
    gaps = [b - a for number, (a, b) in enumerate(itertools.pairwise(times), 1) if number not in middle]
    spec = StageSpec.model_validate({"loss": {"name": "contrastive"}})
    epoch = -(-len(data.collection.splits["train"].queries) // spec.queries_per_step)
    training, dev = epoch * statistics.median(gaps), spec.evaluations * statistics.median(evaluated)
    return [
        Row(
            name=f"{kind}: {spec.evaluations} evaluations in one epoch of {epoch} steps",
            values={
                "a step, s": statistics.median(gaps),
                "an evaluation, s": statistics.median(evaluated),
                "bare scoring, s": bare,
                "evaluation / bare": statistics.median(evaluated) / bare,
            },
            unit="share of the time",
            ratio=dev / (training + dev),
            reached=dev / (training + dev) <= GOAL,
        )
    ]


def bare_seconds(data: Data, folder: Path) -> float:
    """`score_tokens` of the dev pairs, alone."""
    dtype = pick_dtype("auto", torch.device("cpu"))
    ranker = load_ranker(folder).for_scoring(dtype)
    split = data.collection.splits["dev"]
    queries = token_ids(split.queries, ranker.reader("query"), data.workspace)
    docs = token_ids(data.collection.docs, ranker.reader("doc"), data.workspace)
    rows = range(len(split.queries))
    asked = [queries[row] for row in rows]
    candidates = [[docs[doc] for doc in data.candidates["dev"].rows(row)[:30].tolist()] for row in rows]
    start = time.perf_counter()
    ranker.score_tokens(asked, candidates)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
