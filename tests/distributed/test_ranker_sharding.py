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
from tests.distributed.shard_rankers import CASES, go_on, make, write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in {kind for _, kind, _ in CASES.values()}:
        write_model(root / kind, kind)
    for name in CASES:
        write_checkpoint(root / "one" / name, make(root, name))
    return root


@pytest.fixture(scope="module")
def differences(root: Path) -> dict[str, dict[str, float]]:
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
        outputs = [process.communicate(timeout=400)[0] for process in ranks]
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


# Adam divides by the root of the squared gradient: where that is near 0, rounding moves a weight by part of a step of
# 1e-3. Moments that were lost would move all weights by that much.
MEAN, LARGEST = 1e-6, 1e-3


@pytest.mark.parametrize("name", list(CASES))
def test_a_checkpoint_of_one_process_goes_on_in_two(differences: dict[str, dict[str, float]], name: str) -> None:
    assert differences[name]["mean"] < MEAN
    assert differences[name]["largest"] < LARGEST


@pytest.mark.parametrize("name", list(CASES))
def test_a_checkpoint_of_two_processes_goes_on_in_one(
    root: Path, differences: dict[str, dict[str, float]], name: str
) -> None:
    found = go_on(root / "two" / name, make(root, name))
    assert found["mean"] < MEAN
    assert found["largest"] < LARGEST
