"""kill_steps.py JOB.json FOLDER STEP...: a training killed right after each of the steps, then taken up again.

Each attempt is a process of its own, forked before any of them has trained, so that the imports are paid once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from stillhouse.training import loop
from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job


def attempt(job: TrainingJob, folder: Path, kill_after: int | None) -> int:
    """Train in a child; returns the signal that ended it (0: none)."""
    child = os.fork()
    if child == 0:
        write = loop.append_point

        def write_and_die(place: Path, point: Mapping[str, float]) -> None:
            write(place, point)
            if point["step"] == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

        loop.append_point = write_and_die
        result = run_job(job, folder / "ckpt", lambda metrics, step: None, folder / "out")
        (folder / "result.json").write_text(json.dumps(result))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"step {kill_after}: exit status {os.WEXITSTATUS(status)}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    torch.set_num_threads(1)
    job = TrainingJob(**json.loads(Path(sys.argv[1]).read_text()))
    folder = Path(sys.argv[2])
    assert attempt(job, folder / "whole", None) == 0
    steps = len((folder / "whole" / "out" / "curve.jsonl").read_text().splitlines())
    for step in map(int, sys.argv[3:]):
        place = folder / f"killed-{step}"
        # Counted from the end where negative, as in a list: -2 is the last step but one.
        assert attempt(job, place, step if step > 0 else steps + 1 + step) == signal.SIGKILL
        assert attempt(job, place, None) == 0


if __name__ == "__main__":
    main()
