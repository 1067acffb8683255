"""Every architecture under FSDP2 on two gloo ranks: same loss, gradients, scores and weights as in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhouse.rankers import RANKERS
from tests.contracts.tiny_models import write_model
from tests.distributed.launch import run_ranks
from tests.distributed.shard_rankers import CASES, GO_ON, go_on, make, write_checkpoint


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in {kind for _, kind, _ in CASES.values()}:
        write_model(root / kind, kind)
    for name in GO_ON:
        write_checkpoint(root / "one" / name, make(root, name))
    return root


@pytest.fixture(scope="module")
def differences(root: Path) -> dict[str, dict[str, float]]:
    outputs = run_ranks("shard_rankers.py", root, timeout=900)
    found: dict[str, dict[str, float]] = json.loads(outputs[0].strip().splitlines()[-1])
    return found


def test_every_architecture_is_here() -> None:
    assert {key for key, _, _ in CASES.values()} == set(RANKERS)
    checkpointed = {key for key, _, options in CASES.values() if options.get("gradient_checkpointing")}
    assert checkpointed == set(RANKERS)


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


@pytest.mark.parametrize("name", GO_ON)
def test_a_checkpoint_of_one_process_goes_on_in_two(differences: dict[str, dict[str, float]], name: str) -> None:
    assert differences[name]["mean"] < MEAN
    assert differences[name]["largest"] < LARGEST


@pytest.mark.parametrize("name", GO_ON)
def test_a_checkpoint_of_two_processes_goes_on_in_one(
    root: Path, differences: dict[str, dict[str, float]], name: str
) -> None:
    found = go_on(root / "two" / name, make(root, name))
    assert found["mean"] < MEAN
    assert found["largest"] < LARGEST
