"""oom_cases.py FOLDER: trainings on machines that get too small for them; FOLDER/cases.json says which.

Each rank of each case is a process of its own, forked before any has trained, so that the imports are paid once. It
may map `megabytes` more than it has when step `step` begins; beyond that the kernel refuses, as on a full machine.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from stillhouse.errors import TrainingError
from stillhouse.training import loop, ranks, run
from stillhouse.training.job import TrainingJob
from tests.contracts.ports import free_port


def limit_address_space(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class OnSmallMachine(loop.Trainer):
    """The trainer itself; only the machine of the last rank shrinks, before the attempts of one step."""

    case: dict[str, Any]

    def _attempt(self, *arguments: Any) -> Any:
        step = arguments[-1][1]
        if step == self.case["step"] and ranks.rank() == ranks.world_size() - 1 and not self.case.get("small"):
            # Arrow reserves address space when it first reads a file.
            self.data.collection.splits["train"].qrels.get(0)
            limit_address_space(self.case["megabytes"])
            self.case["small"] = True
        return super()._attempt(*arguments)


def train(case: dict[str, Any], folder: Path, rank: int) -> None:
    logging.basicConfig(filename=folder / f"log-{rank}.txt", level=logging.INFO, format="%(message)s", force=True)
    if case["ranks"] > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(case["ranks"]), "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = str(case["port"])
        dist.init_process_group("gloo")
    OnSmallMachine.case = case
    run.Trainer = OnSmallMachine
    # What a step frees must go back: kept, it would do for the next step, whatever the machine still has.
    run.keep_freed_memory = lambda: None
    try:
        run.run_job(TrainingJob(**case["job"]), folder / "ckpt", lambda metrics, step: None, folder / "out")
    except TrainingError as error:
        (folder / f"error-{rank}.txt").write_text(str(error))


def main() -> None:
    torch.set_num_threads(1)
    # Where oneDNN finds no memory for what it compiles, it may end the process: no matter of how a step is divided.
    torch.backends.mkldnn.set_flags(_enabled=False)
    root = Path(sys.argv[1])
    for name, case in json.loads((root / "cases.json").read_text()).items():
        folder = root / case.get("folder", name)
        folder.mkdir(exist_ok=True)
        case["port"] = free_port()
        children = []
        for rank in range(case["ranks"]):
            child = os.fork()
            if child == 0:
                train(case, folder, rank)
                os._exit(0)
            children.append(child)
        for child in children:
            _, status = os.waitpid(child, 0)
            if status and not case.get("may_fail"):
                raise SystemExit(f"{name}: status {status}")


if __name__ == "__main__":
    main()
