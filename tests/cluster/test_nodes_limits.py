"""Too little memory: objects spill to disk, and a teacher that no process survives opening is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stillhouse.errors import StoreError
from tests.cluster.ray_nodes import PATIENCE_S, Cluster
from tests.cluster.scoring_world import World

DRIVER = Path(__file__).with_name("spread_driver.py")


def test_a_full_object_store_spills_and_the_job_goes_on(nodes: Cluster) -> None:
    """30 items of 5 MB go through a head that has room for 80 MB of objects."""
    count, size = 30, 5_000_000
    nodes.ready(1)
    done = subprocess.run(
        [sys.executable, DRIVER, str(count), str(size)],
        env=nodes.settings(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    # Every 65,536th byte of 5 million is 77 bytes.
    assert told["sums"] == [[number, 77 * number] for number in range(count)]
    assert told["spilled"], done.stdout
    nodes.ready(0)


def test_a_teacher_that_ends_every_process_is_named(cluster: None, world: World, tmp_path: Path) -> None:
    """A process that runs out of memory is killed without a word, by the kernel or by Ray; here by this test."""
    store = world.store(tmp_path)
    store.create()
    killed: set[int] = set()
    stop = threading.Event()

    def kill_who_opens() -> None:
        while not stop.wait(0.005):
            for path in store.path.glob("attempts/*/.opening.*"):
                pid = int(path.name.rpartition(".")[2])
                if pid not in killed:
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_who_opens)
    killer.start()
    try:
        with pytest.raises(
            StoreError, match=r"2 processes on .* ended while they opened it.*lower store.actors"
        ) as told:
            world.score(store, num_actors=1, max_tries=2)
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 2
    assert str(told.value).startswith(f"teacher {world.ranker_path}: ")
    assert "\n" not in str(told.value)
    # Nothing kills this one, and another job counts from zero.
    assert world.score(store, num_actors=0).scored > 0
