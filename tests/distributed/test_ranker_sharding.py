"""Every architecture under FSDP2 on two gloo ranks: same loss, gradients, scores and weights as in one process."""

from __future__ import annotations

import json

import pytest

from stillhouse.rankers import RANKERS
from tests.contracts.tiny_models import write_model
from tests.distributed.launch import run_ranks
from tests.distributed.shard_rankers import CASES


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    root = tmp_path_factory.mktemp("models")
    for kind in {kind for _, kind, _ in CASES.values()}:
        write_model(root / kind, kind)
    outputs = run_ranks("shard_rankers.py", root)
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
