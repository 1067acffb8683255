"""One rank of a training, as a process of its own: train_rank.py JOB.json CHECKPOINTS OUTPUT [seconds per report]."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job


def main() -> None:
    job = TrainingJob(**json.loads(Path(sys.argv[1]).read_text()))
    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")

    def report(metrics: dict[str, float], step: int) -> None:
        print(json.dumps({"step": step, **metrics}), flush=True)
        time.sleep(pause)

    run_job(job, Path(sys.argv[2]), report, Path(sys.argv[3]))


if __name__ == "__main__":
    main()
