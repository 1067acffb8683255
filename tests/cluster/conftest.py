"""One small cluster for the whole session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

import stillhouse
from stillhouse.scores.pipeline import ScoreReport
from stillhouse.scores.store import ScoreStore
from tests.cluster.ray_nodes import QUICK_TO_NOTICE, Cluster, cluster_of
from tests.cluster.scoring_world import World, make_world
from tests.contracts import s3_server
from tests.contracts.ports import free_port


@pytest.fixture(scope="session")
def s3_port() -> int:
    """A free port, where `s3` listens: the workers of the cluster get its address and credentials when they start."""
    port = free_port()
    s3_server.export(port)
    return port


@pytest.fixture
def s3(s3_port: int) -> Iterator[s3_server.S3Server]:
    server = s3_server.S3Server(s3_port).start()
    yield server
    if server.running:
        server.stop()


@pytest.fixture(scope="session")
def cluster(s3_port: int) -> Iterator[None]:
    """Two CPUs, no dashboard; workers import stillhouse from where the tests do."""
    os.environ["PYTHONPATH"] = str(Path(stillhouse.__file__).parents[1])
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as an actor or a worker has, so that this process gives the same bits where it works without Ray."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def whole(cluster: None, world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoreStore, ScoreReport]:
    """The store of a job that nothing disturbed."""
    store = world.store(tmp_path_factory.mktemp("whole"))
    return store, world.score(store)


@pytest.fixture(scope="session")
def nodes(s3_port: int) -> Iterator[Cluster]:
    """A head without a CPU and with little memory for objects; a test adds the nodes that it uses, or kills."""
    with cluster_of(QUICK_TO_NOTICE, num_cpus=0, more=["--object-store-memory=80000000"]) as started:
        yield started


@pytest.fixture
def joined(nodes: Cluster) -> Iterator[Cluster]:
    """The same; the nodes that a test added leave with it."""
    yield nodes
    nodes.ready(0)
