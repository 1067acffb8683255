"""A training with LoRA: two ranks under FSDP2 equal one, and one that is stopped goes on exactly where it stood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from stillhouse.rankers import load_ranker
from stillhouse.training import checkpoints
from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job
from tests.distributed.test_training_parity import finish, start, weights

CPU = torch.device("cpu")


class StoppedError(Exception):
    """What a killed trial raises in its report."""


@pytest.fixture(scope="module")
def lora_job(job: TrainingJob) -> TrainingJob:
    stage = {**job.stages["distill"], "optimizer": {"learning_rate": 1e-2}}
    ranker = {**job.ranker, "projection_dim": 16, "lora": {"rank": 4, "target": ["query", "value"]}}
    return replace(job, ranker=ranker, stages={"distill": stage})


@pytest.fixture(scope="module")
def alone(lora_job: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("alone")
    reports: list[dict[str, float]] = []
    run_job(lora_job, folder / "ckpt", lambda metrics, step: reports.append(metrics), folder / "out", CPU)
    return folder, reports


def test_only_adapters_and_head_move(lora_job: TrainingJob, alone) -> None:
    before = weights_before(lora_job)
    after = load_ranker(alone[0] / "out").state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert before.keys() == after.keys()
    assert {name.rsplit(".", 2)[-2] for name in moved} == {"query", "value", "projection"}
    assert len(moved) == 2 * 2 + 1


def weights_before(lora_job: TrainingJob) -> dict[str, torch.Tensor]:
    """The weights before training, without adapters."""
    from stillhouse.rankers import RANKERS

    spec = lora_job.ranker_spec.model_copy(update={"lora": None})
    return RANKERS["dual_encoder"].from_spec(spec, seed=lora_job.seed).state_dict()


def test_a_checkpoint_holds_what_trains_and_a_stopped_training_goes_on(lora_job: TrainingJob, alone, tmp_path) -> None:
    def stop(metrics: dict[str, float], step: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        run_job(lora_job, tmp_path / "ckpt", stop, tmp_path / "out", CPU)
    found = checkpoints.newest(tmp_path / "ckpt")
    assert found is not None
    assert found[1].total_step == 3
    held = {
        name for name in FileSystemReader(found[0]).read_metadata().state_dict_metadata if name.startswith("model.")
    }
    # Two layers, two adapted projections in each, A and B; and the head.
    assert len(held) == 2 * 2 * 2 + 1
    assert all("lora_" in name or name == "model.projection.weight" for name in held)
    run_job(lora_job, tmp_path / "ckpt", lambda metrics, step: None, tmp_path / "out", CPU)
    mine, expected = weights(tmp_path), weights(alone[0])
    assert all(torch.equal(mine[name], expected[name]) for name in expected)


def test_two_ranks_equal_one(lora_job: TrainingJob, alone, tmp_path) -> None:
    folder, reports = alone
    spread = replace(lora_job, scale={**lora_job.scale, "num_workers": 2, "sharding": "fsdp"})
    others = finish(start(spread, tmp_path, ranks=2))
    assert len(others) == len(reports) == 2
    for ours, theirs in zip(others, reports, strict=True):
        for name in ("train/loss", "train/grad_norm", "nDCG@10"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    mine, expected = weights(tmp_path), weights(folder)
    assert mine.keys() == expected.keys()
    for name, value in expected.items():
        # A step of Adam is at most 1e-2: rounding may move a weight by part of one.
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-3)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Trained with LoRA (rank 4, alpha 32, query, value), merged into these weights." in card
