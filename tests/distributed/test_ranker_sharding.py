"""Every architecture under FSDP2 on two gloo ranks: same loss, gradients, scores and weights as in one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.rankers import RANKERS
from tests.contracts.tiny_models import write_model
from tests.distributed.shard_rankers import CASES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    root = tmp_path_factory.mktemp("models")
    for kind in {kind for _, kind, _ in CASES.values()}:
        write_model(root / kind, kind)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("shard_rankers.py")), str(root)]
    ranks = [
        subprocess.Popen(command, env=settings | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0]
    found: dict[str, dict[str, float]] = json.loads(outputs[0].strip().splitlines()[-1])
    return found


def test_every_architecture_is_here() -> None:
    assert {key for key, _, _ in CASES.values()} == set(RANKERS)


@pytest.mark.parametrize("name", list(CASES))
def test_two_ranks_equal_one(differences: dict[str, dict[str, float]], name: str) -> None:
    found = differences[name]
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-4
    assert found["score"] < 1e-4
    assert found["state"] == 0
