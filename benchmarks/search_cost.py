"""What a search costs: trials against their bare training loops, and asha against running every trial to its end.

    python -m benchmarks.search_cost [--small] [--output benchmarks/results/search_cost.json]

On pydocs with the quick start's student (2 layers of MiniLM) and MiniLM as it comes for a teacher. First 20 trials of
one worker, one at a time, recorded in MLflow (SQLite), and the same trainings as plain loops in one process. Then 24
trials to the end and the same 24 points under asha, two at a time where there are two cores. One thread a trial. What
comes before the first training (Ray, the actor, imports, reading the data) is measured apart.
`--small` tries all of it in a few minutes and writes no result.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, versions

SIZES = {
    "full": {"queries": 1400, "dev": 50, "trials": 20, "steps": 8, "repeats": 1, "points": 24, "evaluations": 9},
    "small": {"queries": 64, "dev": 16, "trials": 3, "steps": 2, "repeats": 1, "points": 5, "evaluations": 4},
}
MOST_OVERHEAD, MOST_COST, MOST_LOSS = 1.10, 0.4, 0.005
STEPS_PER_EVALUATION = 2
QUERIES_PER_STEP = 8
SPACE = {
    "stages.distill.loss.temperature": {"float": [0.5, 8.0], "log": True},
    "stages.distill.groups.num_negatives": {"choice": [1, 3, 7]},
    "stages.distill.optimizer.learning_rate": {"float": [3.0e-5, 1.0e-3], "log": True},
}
PACKAGES = ("ray", "optuna", "mlflow", "torch", "transformers", "numpy")


def make_world(root: Path, size: dict[str, int], small: bool) -> tuple[Any, Any]:
    """The recipe of a trial and the training that trials are made from; scores are the untuned teacher's."""
    from stillhouse.candidates import candidates_for
    from stillhouse.collection import materialise
    from stillhouse.recipe import load_recipe, override
    from stillhouse.training.job import TrainingJob

    recipe = override(
        load_recipe("demo"),
        {
            "collection.max_train_queries": size["queries"],
            "collection.max_dev_queries": size["dev"],
            "collection.max_test_queries": 10,
            "scale.dtype": "float32",
            "stages.distill.max_steps": size["steps"],
            "stages.distill.queries_per_step": QUERIES_PER_STEP,
            "evaluation.dev_depth": 8,
        }
        | ({"collection.packages": ["numpy.polynomial", "asyncio", "unittest", "email"]} if small else {}),
    )
    collection = materialise(recipe.collection, 0, root)
    candidates = {split: candidates_for(recipe.candidates, collection, split, root) for split in ("train", "dev")}
    teacher = root / "teacher.parquet"
    score(collection, candidates["train"], recipe.stages["distill"].groups.depth, teacher)
    job = TrainingJob(
        ranker=recipe.student.model_dump(mode="json"),
        stages={name: stage.model_dump(mode="json") for name, stage in recipe.stages.items()},
        seed=0,
        evaluation=recipe.evaluation.model_dump(mode="json"),
        scale=recipe.scale.model_dump(mode="json"),
        candidates=recipe.candidates.model_dump(mode="json"),
        collection=str(collection.path),
        collection_digest=collection.digest,
        workspace=str(root),
        teacher_scores=str(teacher),
        teacher_key="untuned minilm",
    )
    return recipe, job


def score(collection: Any, candidates: Any, depth: int, path: Path) -> None:
    """MiniLM as it comes on the candidates of the train queries and on their positives."""
    import numpy as np
    import torch

    from stillhouse.rankers import RANKERS
    from stillhouse.training.teacher import write_teacher_scores

    logging.getLogger("stillhouse").setLevel(logging.ERROR)  # that long documents are cut is meant
    split = collection.splits["train"]
    ranker = RANKERS["dual_encoder"].from_backbone("minilm", pooling="mean", query_max_length=32, doc_max_length=64)
    # The trials' one thread is not meant for this.
    torch.set_num_threads(os.cpu_count() or 1)
    pieces = []
    for row in range(len(split.queries)):
        positives = [doc for doc, grade in split.qrels.get(row, {}).items() if grade > 0]
        docs = list(dict.fromkeys([*candidates.rows(row)[:depth].tolist(), *positives]))
        scores_K = ranker.score([split.queries.text(row)], [collection.docs.texts(docs)])[0].numpy()
        pieces.append((np.full(len(docs), row), np.array(docs), scores_K))
        if row % 200 == 0:
            print(f"teacher: {row} of {len(split.queries)} queries", flush=True)
    write_teacher_scores(path, pieces)


@dataclass(frozen=True)
class Timed:
    """The real objective; loads before its first trial in a process, and notes when each trial began and ended."""

    inner: Any
    notes: Path

    def __call__(self, recipe: Any, trial_key: str, checkpoint_dir: Path, report: Callable[..., None]) -> None:
        called = time.time()
        load(self.inner.template)
        times = {"key": trial_key, "called": called, "started": time.time()}
        try:
            self.inner(recipe, trial_key, checkpoint_dir, report)
        finally:
            with self.notes.open("a") as stream:
                stream.write(json.dumps(times | {"ended": time.time()}) + "\n")


def load(job: Any) -> None:
    """Imports, the backbone's file and the data: once in a process."""
    # Not a variable of this module: an actor gets a copy of it with each trial.
    if "SEARCH_COST_LOADED" not in os.environ:
        from stillhouse.rankers import RANKERS
        from stillhouse.training.job import load_data

        load_data(job, RANKERS[job.ranker["ranker"]].from_spec(job.ranker_spec))
        os.environ["SEARCH_COST_LOADED"] = "1"


def search(root: Path, recipe: Any, job: Any, at_a_time: int, evaluations: int, **space: Any) -> dict[str, Any]:
    """A study with its record; seconds of the whole, of the start, and from the first training to the end."""
    from stillhouse.pipeline.searching import StudentObjective
    from stillhouse.search import make_space
    from stillhouse.search.study import run_study
    from stillhouse.tracking import MlflowTracker

    root.mkdir(parents=True)
    tracker = MlflowTracker(f"sqlite:///{root}/mlflow.db", "search")
    parent = tracker.run("parent", "search")
    made = make_space({"space": SPACE, "sampler": {"name": "random", "seed": 3}, **space})
    started = time.time()

    def show(trial: Any) -> None:
        print(f"trial {trial.number}: {trial.state} {trial.metric} {trial.seconds:.1f} s", flush=True)

    study = run_study(
        recipe,
        made,
        Timed(StudentObjective(job), root / "times.jsonl"),
        root=root,
        tracker=tracker,
        parent_run=parent,
        resume=False,
        placement=lambda: ({"CPU": 1.0}, at_a_time),
        metric_budget=evaluations,
        progress=show,
    )
    ended = time.time()
    times = [json.loads(line) for line in (root / "times.jsonl").read_text().splitlines()]
    first = min(one["started"] for one in times)
    return {
        "values": [trial.values for trial in study.trials],
        "best": study.best.metric,
        "evaluations": [len(trial.reports) for trial in study.trials],
        "wall": ended - first,
        "start": min(one["called"] for one in times) - started,
        "loading": first - min(one["called"] for one in times),
        "inside": sum(one["ended"] - one["started"] for one in times),
    }


def bare(job_file: Path, folder: Path) -> None:
    """A process of its own: each training as a plain loop, one after the other; prints seconds of loading and each."""
    from dataclasses import replace

    import torch

    from stillhouse.recipe import make_recipe, override
    from stillhouse.training.job import TrainingJob
    from stillhouse.training.run import run_job

    torch.set_num_threads(1)
    asked = json.loads(job_file.read_text())
    job, recipe = TrainingJob(**asked["job"]), make_recipe(asked["recipe"])
    started = time.perf_counter()
    load(job)
    seconds = [time.perf_counter() - started]
    for number, values in enumerate(asked["values"]):
        stages = {name: one.model_dump(mode="json") for name, one in override(recipe, values).stages.items()}
        started = time.perf_counter()
        run_job(replace(job, stages=stages), folder / str(number), lambda metrics, step: None)
        seconds.append(time.perf_counter() - started)
        print(f"loop {number}: {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    print(json.dumps(seconds))


def bare_seconds(root: Path, recipe: Any, job: Any, values: list[dict[str, Any]]) -> list[float]:
    """Seconds of loading, then of each training."""
    asked = root / "bare.json"
    asked.write_text(json.dumps({"job": asdict(job), "recipe": recipe.model_dump(mode="json"), "values": values}))
    with tempfile.TemporaryDirectory(dir=root) as folder:
        command = [sys.executable, "-m", "benchmarks.search_cost", "--bare", str(asked), "--folder", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds


def overhead(root: Path, recipe: Any, job: Any, size: dict[str, int]) -> list[dict[str, Any]]:
    """Trials, and the same trainings as plain loops, in turn."""
    rounds = []
    for number in range(size["repeats"]):
        evaluations = recipe.stages["distill"].evaluations
        found = search(root / f"study-{number}", recipe, job, 1, evaluations, trials=size["trials"], scheduler="none")
        loading, *loops = bare_seconds(root, recipe, job, found["values"])
        rounds.append(found | {"loops": sum(loops), "loops_loading": loading})
        print(f"round {number}: {found['wall']:.1f} s against {sum(loops):.1f} s", flush=True)
    return rounds


def rows_of_overhead(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ratios = [one["wall"] / one["loops"] for one in rounds]
    ratio = statistics.median(ratios)

    def middle(name: str) -> float:
        return round(statistics.median(one[name] for one in rounds), 2)

    return [
        {
            "name": "trials, from the first training to the end",
            "value": middle("wall"),
            "unit": "s",
            "ratio": round(ratio, 4),
            # One round has none.
            "spread": round((max(ratios) - min(ratios)) / ratio, 4) if len(ratios) > 1 else None,
            "reached": ratio <= MOST_OVERHEAD,
        },
        {"name": "the same trainings as plain loops", "value": middle("loops"), "unit": "s"},
        {"name": "inside the trials' objective", "value": middle("inside"), "unit": "s"},
        {"name": "before: Ray Tune and the actor's start", "value": middle("start"), "unit": "s"},
        {"name": "before: imports and data, in the actor", "value": middle("loading"), "unit": "s"},
        {"name": "before: imports and data, plain loops", "value": middle("loops_loading"), "unit": "s"},
    ]


def rows_of_stopping(root: Path, recipe: Any, job: Any, size: dict[str, int], cores: int) -> list[dict[str, Any]]:
    """The same points, all to the end and under asha."""
    from stillhouse.recipe import override

    steps = size["evaluations"] * STEPS_PER_EVALUATION
    changes = {"max_steps": steps, "evaluations": size["evaluations"], "epochs": -(-steps * QUERIES_PER_STEP // 64)}
    longer = override(recipe, {f"stages.distill.{name}": value for name, value in changes.items()})
    found = {
        name: search(
            root / f"stopping-{name}",
            longer,
            job,
            min(2, cores),
            size["evaluations"],
            trials=size["points"],
            scheduler=scheduler,
        )
        for name, scheduler in (
            ("none", "none"),
            ("asha", {"name": "asha", "grace": 1, "reduction_factor": 3}),
        )
    }
    asha, none = found["asha"], found["none"]
    assert sorted(map(str, asha["values"])) == sorted(map(str, none["values"])), "other points were drawn"
    cost = sum(asha["evaluations"]) / sum(none["evaluations"])
    lost = none["best"] - asha["best"]
    return [
        {
            "name": "asha: training steps, by those of all trials to the end",
            "value": sum(asha["evaluations"]) * STEPS_PER_EVALUATION,
            "unit": "steps",
            "ratio": round(cost, 4),
            "reached": cost <= MOST_COST,
        },
        {
            "name": "asha: wall time, by that of all trials to the end",
            "value": round(asha["wall"], 1),
            "unit": "s",
            "ratio": round(asha["wall"] / none["wall"], 4),
        },
        {
            "name": "asha: best dev nDCG@10 (with all to the end: " + f"{none['best']:.4f})",
            "value": round(asha["best"], 4),
            "unit": "",
            "reached": lost <= MOST_LOSS,
        },
    ]


def main() -> None:
    parser = parser_of(__doc__, "search_cost")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.bare:
        bare(options.bare, options.folder)
        return
    size = SIZES["small" if options.small else "full"]
    with tempfile.TemporaryDirectory() as place:
        rows = measure(Path(place), size, options.small)
    result = Result(
        question="Search: what trials cost beside their training, and what early stopping saves",
        about=f"{size['trials']} trials of one worker, one at a time, against the same trainings as plain loops "
        f"({size['repeats']} rounds, in turn); then {size['points']} points, all to the end and under asha "
        f"(reduction factor 3, {size['evaluations']} evaluations). pydocs, {size['queries']} train and "
        f"{size['dev']} dev queries, 2 layers of MiniLM, one thread a trial, MLflow in SQLite.",
        goal=f"trials take at most {MOST_OVERHEAD} times their bare loops; asha finds the same dev nDCG@10 "
        f"within {MOST_LOSS} at {MOST_COST} of the cost or less",
        command=command_of("search_cost"),
        machine=machine(1),
        versions=versions(*PACKAGES),
        rows=[Row.model_validate(row) for row in rows],
    )
    hand_in(result, options)


def measure(root: Path, size: dict[str, int], small: bool) -> list[dict[str, Any]]:
    """Both questions, one after the other, on one Ray."""
    import ray

    recipe, job = make_world(root, size, small)
    here = Path(__file__).parents[1]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), *(path for path in sys.path if path)])
    cores = os.cpu_count() or 1
    ray.init(num_cpus=max(2, cores), include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        rows = rows_of_overhead(overhead(root, recipe, job, size))
        return rows + rows_of_stopping(root, recipe, job, size, cores)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
