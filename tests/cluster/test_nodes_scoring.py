"""Scoring by a head without a CPU and workers that differ, come and go: the store is that of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from stillhouse.scores.journal import read_jobs
from stillhouse.scores.manage import verify
from stillhouse.scores.store import ScoreStore
from tests.cluster.ray_nodes import PATIENCE_S, Cluster
from tests.cluster.scoring_world import DEPTH, NUM_QUERIES, World, file_rows
from tests.contracts.s3_server import S3Server, wait_until

pytestmark = pytest.mark.usefixtures("one_thread")
ALL = NUM_QUERIES * DEPTH


def alone(world: World, folder: Path) -> ScoreStore:
    """The store that this process makes."""
    store = world.store(folder)
    world.score(store, num_actors=0)
    return store


@contextmanager
def pausing() -> Iterator[tuple[Callable[[set[int]], set[int]], Callable[[set[int]], None]]]:
    """A function that stops processes and gives all that it has stopped, and one that lets some go on.

    Afterwards all go on.
    """
    stopped: dict[int, psutil.Process] = {}

    def stop(pids: set[int]) -> set[int]:
        for pid in pids - stopped.keys():
            stopped[pid] = psutil.Process(pid)
            stopped[pid].suspend()
        return set(stopped)

    def go_on(pids: set[int]) -> None:
        for pid in pids & stopped.keys():
            with suppress(psutil.NoSuchProcess):
                stopped[pid].resume()

    try:
        yield stop, go_on
    finally:
        go_on(set(stopped))


def begun(store: ScoreStore) -> set[int]:
    """The processes that have begun a shard and not ended it."""
    pids = set()
    for path in store.path.glob("attempts/*/[!.]*"):
        with suppress(FileNotFoundError):
            pids.add(int(path.read_text().rpartition(":")[2]))
    return pids


def test_a_node_that_joins_is_used_and_one_that_dies_costs_its_shards_in_flight(
    joined: Cluster, world: World, tmp_path: Path
) -> None:
    """Two nodes of different size at the start, a third in mid-job, and then the first is gone."""
    first, second = joined.add(1), joined.add(2, resources='{"disk": 4}')
    store = world.store(tmp_path / "spread")
    driver = world.driver(tmp_path / "spread", environment=joined.settings(), actors=None)

    def alive() -> bool:
        assert driver.poll() is None, driver.communicate()[0]
        return True

    # However fast this machine is, the job lasts until the third node has come: an actor is stopped when it begins. One
    # that still opens the teacher must not be, since Ray adds none while one of the pool is not there.
    with pausing() as (stop, go_on):
        wait_until(lambda: alive() and len(stop(begun(store))) == 3, PATIENCE_S)
        assert stop(set()) & first.processes()
        # Two CPUs: an actor asks for less than one, so one of those that are added now may still fit on the second.
        third = joined.add(2)
        wait_until(lambda: alive() and bool(stop(begun(store)) & third.processes()), PATIENCE_S)
        second.processes()
        go_on(third.pids)
        wait_until(lambda: alive() and store.files() != [], PATIENCE_S)
        kept = {path.name: path.stat().st_mtime_ns for path in store.files()}
        first.kill()
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, output

    (job,) = read_jobs(store.path)
    assert job["actors"] == 3
    assert job["scored"] + job["reused"] == ALL == sum(file_rows(store))
    workers = {int(name.rpartition(":")[2]) for name in job["by_actor"]}
    assert workers & second.pids
    assert workers & third.pids
    assert 0 < len(kept) < len(store.files())
    written = {path.name: path.stat().st_mtime_ns for path in store.files()}
    assert kept.items() <= written.items()
    assert store.digest() == alone(world, tmp_path / "alone").digest()
    assert verify(store).ok


def test_nodes_write_to_s3_what_one_process_writes_to_a_folder(
    joined: Cluster, world: World, s3: S3Server, tmp_path: Path
) -> None:
    nodes = joined.add(1), joined.add(1)
    root = f"{s3.bucket('nodes')}/scores"
    driver = world.driver(root, environment=joined.settings(), actors=None)
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, output
    store = world.store(root)
    assert all(node.running for node in nodes)
    assert store.digest() == alone(world, tmp_path).digest()
    assert verify(store).ok
