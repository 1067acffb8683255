"""One of several ranks: train_ranks.py FOLDER. Trains every `NAME.json` (a TrainingJob) there in turn, into NAME/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        folder = path.with_suffix("")
        job = TrainingJob(**json.loads(path.read_text()))
        run_job(job, folder / "checkpoints", lambda metrics, step: None, folder / "out")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
