"""Real faults in a scoring job: whatever dies, breaks or fills up, every pair stands once, with the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import ray
import torch
from ray._private.node import Node
from ray._private.parameter import RayParams

from stillhouse.errors import StoreError
from stillhouse.rankers import load_ranker
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.manage import verify
from stillhouse.scores.pipeline import ScoreReport
from stillhouse.scores.store import ScoreStore
from tests.cluster.scoring_world import (
    DEPTH,
    IN_FLIGHT,
    NUM_QUERIES,
    PAIRS_PER_SHARD,
    World,
    file_rows,
)
from tests.contracts.s3_server import SECRET, S3Server, wait_until

Whole = tuple[ScoreStore, ScoreReport]
pytestmark = pytest.mark.usefixtures("one_thread")
ALL = NUM_QUERIES * DEPTH
LARGE_SHARD = 300


def test_a_killed_actor(world: World, whole: Whole, tmp_path: Path) -> None:
    store = world.store(tmp_path)
    killed: list[int] = []

    def kill_first(done: int, total: int, info: dict[str, Any]) -> None:
        if not killed and 0 < done < total / 2:
            killed.append(int(next(iter(info["actors"])).split(":")[1]))
            os.kill(killed[0], signal.SIGKILL)

    report = world.score(store, progress=kill_first)
    assert killed
    assert report.scored + report.reused == ALL == len(store)
    assert store.digest() == whole[0].digest()


def test_a_killed_node(world: World, whole: Whole, tmp_path: Path) -> None:
    """A second node joins, gets an actor, and loses its raylet in mid-job: the job ends by itself."""
    store = world.store(tmp_path)
    killed: list[int] = []
    with _Node() as node:

        def kill_node(done: int, total: int, info: dict[str, Any]) -> None:
            if not killed and done < total / 2:
                there = node.processes() & {int(name.split(":")[1]) for name in info["actors"]}
                if there:
                    killed.extend(there)
                    node.kill()

        report = world.score(store, num_actors=3, progress=kill_node)
    assert killed
    assert report.scored + report.reused == ALL == len(store)
    assert sum(file_rows(store)) == ALL
    assert store.digest() == whole[0].digest()


class _Node:
    """A raylet of two CPUs that joins the session's cluster, as `ray.cluster_utils` starts one.

    Not by `ray start`: it writes a file that makes every later `ray.init` on this machine join the cluster.
    """

    def __enter__(self) -> _Node:
        params = RayParams(
            gcs_address=ray.get_runtime_context().gcs_address,
            num_cpus=2,
            num_gpus=0,
            object_store_memory=100_000_000,
            min_worker_port=0,
            max_worker_port=0,
            node_manager_port=0,
            include_log_monitor=False,
        )
        params.dashboard_agent_listen_port = None
        self.node = Node(params, head=False, shutdown_at_exit=False, spawn_reaper=False)
        self.raylet = psutil.Process(self.node.all_processes["raylet"][0].process.pid)
        wait_until(lambda: ray.cluster_resources()["CPU"] == 4)
        return self

    def processes(self) -> set[int]:
        return {one.pid for one in self.raylet.children(recursive=True)}

    def kill(self) -> None:
        self.raylet.kill()

    def __exit__(self, *error: object) -> None:
        self.node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        wait_until(lambda: ray.cluster_resources()["CPU"] == 2)


def test_a_killed_driver_and_two_writers(world: World, whole: Whole, tmp_path: Path) -> None:
    """The first driver is killed half way; then two run the same command at once, one of them without actors."""
    store = world.store(tmp_path)
    first = world.driver(tmp_path)
    wait_until(lambda: len(store.files()) >= 12)
    first.kill()
    first.wait()
    kept = sum(file_rows(store))
    assert 12 * PAIRS_PER_SHARD / 2 <= kept < ALL
    second = world.driver(tmp_path)
    wait_until(lambda: sum(file_rows(store)) > kept + IN_FLIGHT)
    report = world.score(store, num_actors=0)
    second.communicate(timeout=300)
    assert second.returncode == 0
    states = sorted(job["state"] for job in read_jobs(store.path))
    # This process has no journal if the other writer was done before it looked.
    assert states in (["finished", "finished", "running"], ["finished", "running"])
    assert len(store) == ALL == sum(file_rows(store))
    assert store.digest() == whole[0].digest()
    finished = [job for job in read_jobs(store.path) if job["state"] == "finished"]
    work = sum(job["scored"] - job["duplicated"] for job in finished)
    # The killed job's actors may end what they hold; the two writers may miss that they wrote a shard at once.
    assert abs(work - (ALL - kept)) <= IN_FLIGHT
    assert report.scored + report.reused == ALL
    assert verify(store).ok


def test_a_shard_that_always_kills_its_actor_is_set_aside_and_named(
    cluster: None, world: World, tmp_path: Path
) -> None:
    # Shards of this size last long enough to be caught; the undisturbed job has to cut as they are cut.
    cut = {"shard_size": LARGE_SHARD}
    expected, store = world.store(tmp_path / "expected"), world.store(tmp_path)
    world.score(expected, num_actors=0, **cut)
    store.create()
    watcher = _Killer(store.path)
    with watcher, pytest.raises(StoreError, match=r"1 of its shards not scored.*ended its actor 2 times") as caught:
        world.score(store, max_tries=2, **cut)
    assert len(watcher.killed) == 2
    assert watcher.target in str(caught.value)
    left = ALL - len(store)
    assert 0 < left <= LARGE_SHARD
    # Another job counts its tries from zero, and nothing kills this one.
    assert world.score(store, num_actors=0, **cut).scored == left
    assert store.digest() == expected.digest()


class _Killer:
    """Kills the process that begins a shard, every time it is the shard it killed first."""

    def __init__(self, store_path: Any) -> None:
        self.folder = store_path / "attempts"
        self.target = ""
        self.killed: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for path in self.folder.glob(f"*/{self.target or '[!.]*'}.*"):
                try:
                    worker = path.read_text()
                except FileNotFoundError:
                    continue
                if int(worker.split(":")[1]) not in self.killed:
                    self.target = path.stem
                    self.killed.append(int(worker.split(":")[1]))
                    os.kill(self.killed[-1], signal.SIGKILL)
                    break
            time.sleep(0.001)


def test_corrupt_files_and_a_missing_manifest(world: World, whole: Whole, tmp_path: Path) -> None:
    """The same command finds all of it by itself."""
    shutil.copytree(whole[0].path, tmp_path / whole[0].key)
    store = world.store(tmp_path)
    flipped, truncated, gone = store.files()[3:6]
    rows = sum(file_rows(store)[3:6])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    truncated.write_bytes(truncated.read_bytes()[:-9])
    gone.unlink()
    (store.path / "manifest.json").unlink()
    report = world.score(store, num_actors=0)
    names = [f"{path.parent.name}/{path.name}" for path in (flipped, truncated)]
    assert (report.scored, list(report.set_aside)) == (rows, names)
    assert all((store.path / f"{name}.corrupt").exists() for name in names)
    assert store.digest() == whole[0].digest()
    assert store.manifest() == whole[0].manifest()
    assert verify(store).ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a small file system needs the right to mount; test_pipeline.py limits the size of files instead")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(world: World, whole: Whole, small_disk: Path) -> None:
    store = world.store(small_disk)
    with pytest.raises(StoreError, match=r"No space left on device; make room.*same command again") as caught:
        world.score(store)
    assert str(store.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = len(store)
    assert 0 < kept < ALL
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    assert world.score(store, num_actors=0).scored == ALL - kept
    assert store.digest() == whole[0].digest()
    assert verify(store).ok


def test_a_teacher_that_gives_nan(world: World, whole: Whole, tmp_path: Path) -> None:
    """One word's embedding is NaN: the shards with it stop, by name, and all others are as without it."""
    ranker = load_ranker(world.ranker_path)
    docs, queries = world.collection.docs, world.collection.splits["train"].queries
    counts: dict[str, set[str]] = {}
    for row in range(len(docs)):
        for word in docs.text(row).split()[:24]:
            counts.setdefault(word, set()).add(docs.ids[row])
    in_queries = {word for row in range(len(queries)) for word in queries.text(row).split()}
    word = min((word for word in counts if word not in in_queries), key=lambda word: len(counts[word]))
    (token,) = ranker.tokenise([word])[0]
    with torch.no_grad():
        ranker.backbone.get_input_embeddings().weight[token] = float("nan")
    ranker.save_pretrained(tmp_path / "teacher")
    broken = World(world.collection, tmp_path / "teacher", ranker, world.pairs)
    store = broken.store(tmp_path / "scores")
    with pytest.raises(
        StoreError, match=r"of its shards not scored, the rest is kept: .*the teacher gives nan"
    ) as caught:
        broken.score(store)
    named = str(caught.value).partition("document ")[2].partition(":")[0]
    assert named in counts[word]
    assert 0 < len(store) < ALL
    assert read_jobs(store.path)[-1]["state"] == "failed"
    for number in range(store.partitions):
        keys, scores = store.partition(number)
        np.testing.assert_array_equal(scores, whole[0].lookup_keys(keys))
    # A teacher that is mended is another teacher; here it is the one without NaN, whose store is whole.
    clean = pa.array([docs.ids[row] not in counts[word] for row in world.pairs["doc_row"].to_pylist()])
    assert broken.score(store, world.pairs.filter(clean), shard_size=1, num_actors=0).reused > 0
    assert len(store) >= len(world.pairs.filter(clean))


def test_a_storage_that_goes_away_and_two_writers_when_it_is_back(world: World, whole: Whole, s3: S3Server) -> None:
    """A job in S3, refused now and then; the server stops half way, starts again, and two drivers end the work."""
    root = f"{s3.bucket('faults')}/scores"
    store = world.store(root)
    s3.refusals = 3
    first = world.driver(root)
    wait_until(lambda: len(store.files()) >= 12)
    s3.stop()
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 1
    # Ray writes there as well.
    told = output[output.index("error: ") :]
    assert told.startswith("error: s3://faults/scores/")
    assert "when the storage answers again, run the same command: finished shards are kept" in told
    assert told.partition("finished shards are kept")[0].count("\n") == 0
    assert SECRET not in output
    s3.start()
    kept = len(store)
    assert 12 * PAIRS_PER_SHARD / 2 <= kept < ALL
    damaged, *others = store.files()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    second = world.driver(root)
    wait_until(lambda: len(store.files()) > len(others) + 4)
    report = world.score(store, num_actors=0)
    second.communicate(timeout=300)
    assert second.returncode == 0
    assert report.scored + report.reused == ALL == len(store)
    assert damaged.with_name(f"{damaged.name}.corrupt").exists()
    assert store.digest() == whole[0].digest()
    assert verify(store).ok
    assert not any(SECRET in (store.path / "jobs" / path.name).read_text() for path in store.path.glob("jobs/*.json"))
