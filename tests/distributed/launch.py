"""Start a script as the ranks of one process group on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.contracts.ports import free_port

ROOT = Path(__file__).parents[2]


def run_ranks(script: str, *arguments: str | Path, ranks: int = 2, timeout: float = 600) -> list[str]:
    """What each rank of tests/distributed/SCRIPT printed; fails when one does not end with 0."""
    settings = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(ranks),
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    processes = [
        subprocess.Popen(command, env=settings | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks
    return outputs
