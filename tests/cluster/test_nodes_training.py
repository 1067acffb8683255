"""FSDP2 over two nodes that exchange gradients by gloo: what is lost with a node, and that nothing else changes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from stillhouse.training.curve import CURVE, read_points
from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job
from tests.cluster.ray_nodes import PATIENCE_S, Cluster, Node
from tests.cluster.training_driver import start
from tests.contracts.s3_server import wait_until
from tests.contracts.training_jobs import STAGE, toy_job

STEPS = 40


@pytest.fixture(scope="module")
def job(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> TrainingJob:
    """All 24 queries a step; a checkpoint half way and at the end."""
    stage = {**STAGE, "epochs": STEPS, "queries_per_step": 24, "queries_per_forward": 12}
    stage |= {"optimizer": {"learning_rate": 3e-4}}
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.parquet"
    alone = toy_job(toy, workspace, backbone, {"distill": stage}, teacher=teacher)
    return replace(alone, scale={**alone.scale, "num_workers": 2, "sharding": "fsdp"})


@pytest.fixture(scope="module")
def undisturbed(nodes: Cluster, job: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training on two nodes that both live on."""
    folder = tmp_path_factory.mktemp("undisturbed")
    nodes.ready(2)
    finish(start(job, folder, nodes.settings()), folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def leave(nodes: Cluster) -> Iterator[None]:
    yield
    nodes.ready(0)


def finish(driver: subprocess.Popen[str], folder: Path) -> dict[str, float]:
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, output + (folder / "log.txt").read_text()[-3000:]
    return json.loads(output.splitlines()[-1])


def curve(folder: Path) -> list[dict[str, float]]:
    points = read_points(folder / "out" / CURVE)
    return [{name: value for name, value in point.items() if name != "time"} for point in points]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "model.safetensors")


def steps_done(folder: Path) -> int:
    return len(read_points(folder / "ckpt" / CURVE))


def kept_steps(folder: Path) -> list[int]:
    """The complete checkpoints."""
    return [int(path.parent.name.removeprefix("step-")) for path in folder.glob("ckpt/step-*/progress.json")]


def made_again_after(folder: Path, step: int, killed: float) -> bool:
    """Whether all steps after that one, and no other, were made when the node was gone."""
    points = read_points(folder / "out" / CURVE)
    return [point["step"] for point in points if point["time"] > killed] == list(range(step + 1, STEPS + 1))


@contextmanager
def paused(node: Node) -> Iterator[None]:
    """The node's part of the training stands still, and with it the whole of it, however fast this machine is."""
    workers = [psutil.Process(pid) for pid in node.processes()]
    workers = [one for one in workers if one.cmdline() and "RayTrainWorker" in one.cmdline()[0]]
    assert len(workers) == 1
    workers[0].suspend()
    yield
    workers[0].resume()


def alive(driver: subprocess.Popen[str]) -> bool:
    assert driver.poll() is None, driver.communicate()[0]
    return True


def equal_but_for_sums(folder: Path, other: Path) -> None:
    """Ranks add the same numbers in another order: losses to 1e-4, weights to part of a step of Adam."""
    ours, theirs = curve(folder), curve(other)
    assert [point["step"] for point in ours] == [point["step"] for point in theirs] == list(range(1, STEPS + 1))
    for mine, point in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(point["loss"], rel=1e-4), point["step"]
        assert mine["learning_rate"] == point["learning_rate"]
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    moved = sum(float((found[name] - value).abs().sum()) for name, value in expected.items())
    assert moved / sum(value.numel() for value in expected.values()) < 1e-5


@pytest.mark.usefixtures("one_thread")
def test_two_nodes_train_what_one_process_trains(undisturbed: Path, job: TrainingJob, tmp_path: Path) -> None:
    one = replace(job, scale={**job.scale, "num_workers": 1})
    run_job(one, tmp_path / "ckpt", lambda metrics, step: None, tmp_path / "out", torch.device("cpu"))
    equal_but_for_sums(undisturbed, tmp_path)


def test_a_drained_node_leaves_a_checkpoint_and_another_takes_its_place(
    nodes: Cluster, undisturbed: Path, job: TrainingJob, tmp_path: Path
) -> None:
    """A spot machine is reclaimed: notice first, the end some seconds later. The weights are the same, bit for bit."""
    _, lost = nodes.ready(2)
    driver = start(job, tmp_path, nodes.settings())
    wait_until(lambda: alive(driver) and steps_done(tmp_path) > 0, PATIENCE_S)
    with paused(lost):
        nodes.drain(lost, seconds=60)
        # Ray's watcher looks twice a second here.
        time.sleep(3)
    # No evaluation has been made: this one is the notice's.
    wait_until(lambda: alive(driver) and kept_steps(tmp_path) != [], PATIENCE_S)
    lost.kill()
    killed = time.time()
    (step,) = kept_steps(tmp_path)
    assert 0 < step < STEPS / 2
    nodes.add(1)
    finish(driver, tmp_path)
    assert made_again_after(tmp_path, step, killed)
    assert curve(tmp_path) == curve(undisturbed)
    found, expected = weights(tmp_path), weights(undisturbed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_fewer_workers_go_on_from_the_checkpoint_when_a_node_is_lost(
    nodes: Cluster, undisturbed: Path, job: TrainingJob, tmp_path: Path
) -> None:
    """With `min_workers: 1` nobody waits for another node, and every step is still made of the same 24 queries."""
    _, lost = nodes.ready(2)
    driver = start(job, tmp_path, nodes.settings(), min_workers=1)
    wait_until(lambda: alive(driver) and kept_steps(tmp_path) == [STEPS // 2], PATIENCE_S)
    lost.kill()
    killed = time.time()
    finish(driver, tmp_path)
    assert made_again_after(tmp_path, STEPS // 2, killed)
    equal_but_for_sums(tmp_path, undisturbed)
