"""A training under Ray Train by a process of its own: python -m tests.cluster.training_driver JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from stillhouse.errors import TrainingError
from stillhouse.training.job import TrainingJob
from stillhouse.training.worker import train_distributed

# Ray Train looks for a drained node every 5 s, and waits a minute for workers on nodes that are gone.
BRISK = {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}


def start(
    job: TrainingJob, folder: Path, environment: Mapping[str, str], min_workers: int | None = None
) -> subprocess.Popen[str]:
    """Two workers of one CPU; checkpoints in FOLDER/ckpt, the ranker in FOLDER/out; prints the result, or an error."""
    (folder / "ckpt").mkdir(parents=True)
    arguments = {"job": asdict(job), "folder": str(folder), "min_workers": min_workers}
    command = [sys.executable, "-m", "tests.cluster.training_driver", json.dumps(arguments)]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=dict(environment) | BRISK,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _main(arguments: dict[str, Any]) -> int:
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    folder = Path(arguments["folder"])
    try:
        result = train_distributed(
            TrainingJob(**arguments["job"]),
            checkpoint_folder=folder / "ckpt",
            output=folder / "out",
            num_workers=2,
            min_workers=arguments["min_workers"],
            cpus_per_worker=1,
            gpus_per_worker=0,
            name="nodes",
        )
    except TrainingError as error:
        print(f"error: {error}", flush=True)
        return 1
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
