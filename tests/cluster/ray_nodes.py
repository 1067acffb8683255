"""Ray nodes on this machine, each a real `ray start` with processes, ports and an address of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

import stillhouse
from tests.contracts.ports import free_port

RAY = str(Path(sys.executable).with_name("ray"))
SOURCE = str(Path(stillhouse.__file__).parents[1])
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "500", "RAY_health_check_initial_delay_ms": "500"}
"""For a head: a node whose processes are gone is given up after 3 s and not after 15; a slow one is not."""
PATIENCE_S = 900.0
"""How long a node or a job of these tests may take; the machine may be busy."""


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Ask a few times a second: to look at all processes of a machine is not cheap."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def node_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """What a node starts with: nothing of another cluster's, `python` and `stillhouse` as the tests have them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"PYTHONPATH": SOURCE, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    own |= {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(int(PATIENCE_S))}
    return own | dict(changes)


@dataclass
class Node:
    """One `ray start --block` and everything it started."""

    process: subprocess.Popen[str]
    host: str
    output: list[str] = field(default_factory=list)
    plain: bool = False
    """One CPU and nothing special."""
    children: set[psutil.Process] = field(default_factory=set)
    """What it has started so far, as far as anybody looked."""

    def processes(self) -> set[int]:
        """Its raylet, agents and workers: process ids."""
        with suppress(psutil.NoSuchProcess):
            self.children.update(psutil.Process(self.process.pid).children(recursive=True))
        return {one.pid for one in self.children if one.is_running()}

    @property
    def pids(self) -> set[int]:
        """Of all processes that were ever seen."""
        return {one.pid for one in self.children}

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """All at once and without a word, as when a machine loses its power."""
        self.processes()
        self.process.kill()
        for one in self.children:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(timeout=60)


@dataclass
class Cluster:
    """A head and the nodes that joined it."""

    head: Node
    dashboard: str
    gcs: str
    environment: Mapping[str, str]
    workers: list[Node] = field(default_factory=list)
    start: Callable[[], Node] | None = None
    """Starts the head again, at the same addresses."""
    joined: int = 0
    """Workers so far, those that left counted."""

    def settings(self) -> dict[str, str]:
        """The environment of a driver on this cluster."""
        return node_environment({**self.environment, "RAY_ADDRESS": self.gcs})

    def add(self, cpus: int = 1, *, resources: str = "{}", more: Sequence[str] = (), **changes: str) -> Node:
        """Start a worker node on the next address; it has joined when this returns."""
        self.joined += 1
        host = f"127.0.0.{self.joined + 1}"
        command = [RAY, "start", "--block", "--disable-usage-stats", f"--address={self.gcs}"]
        command += [f"--node-ip-address={host}", f"--num-cpus={cpus}", f"--resources={resources}", *more]
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        if not any(one.startswith("--object-store-memory") for one in more):
            command += ["--object-store-memory=100000000"]
        node = _start(command, dict(self.environment) | changes, host)
        node.plain = cpus == 1 and not changes and not more
        self.workers.append(node)
        return node

    def restart(self) -> None:
        """Another head in the place of one that was killed."""
        assert self.start is not None
        assert not self.head.running
        self.head = self.start()

    def ready(self, count: int) -> list[Node]:
        """So many plain workers of one CPU, and no others; those that live are used again."""
        for node in self.workers:
            if not (node.plain and node.running):
                node.kill()
        self.workers = [node for node in self.workers if node.running]
        for node in self.workers[count:]:
            node.kill()
        self.workers = self.workers[:count]
        while len(self.workers) < count:
            self.add(1)
        return list(self.workers)

    def drain(self, node: Node, seconds: int) -> None:
        """Tell Ray that a node will be taken away, as a watcher of spot notices does."""
        node.plain = False
        ask = "import ray, sys; ray.init(log_to_driver=False); print([one['NodeID'] for one in ray.nodes() "
        ask += "if one['Alive'] and one['NodeManagerAddress'] == sys.argv[1]][0])"
        told = subprocess.run(
            [sys.executable, "-c", ask, node.host], env=self.settings(), capture_output=True, text=True, check=True
        )
        command = [RAY, "drain-node", f"--address={self.gcs}", f"--node-id={told.stdout.split()[-1]}"]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away"]
        command += [f"--deadline-remaining-seconds={seconds}"]
        subprocess.run(command, env=self.settings(), capture_output=True, check=True)


@contextmanager
def cluster_of(environment: Mapping[str, str], *, num_cpus: int, more: Sequence[str] = ()) -> Iterator[Cluster]:
    """A head with a dashboard of its own; it and all nodes that joined it are gone afterwards."""
    # Ray's own folder: the default one would make every bare `ray.init()` of this machine join this head, and a
    # socket's path is at most 107 characters.
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port, dashboard = free_port(), free_port()
        environment = own_token(Path(folder)) | dict(environment)

        def start() -> Node:
            return start_head(Path(folder), port, dashboard, environment, num_cpus=num_cpus, more=more)

        cluster = Cluster(start(), f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, start=start)
        try:
            yield cluster
        finally:
            for node in (*cluster.workers, cluster.head):
                node.kill()


def own_token(folder: Path) -> dict[str, str]:
    """Ray asks for a token by default: one that no other cluster of this machine has."""
    path = folder / "token"
    path.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def start_head(
    folder: Path, port: int, dashboard: int, environment: Mapping[str, str], *, num_cpus: int, more: Sequence[str] = ()
) -> Node:
    # The agent's port is fixed by default: two heads would fight over it, and the one that loses takes no jobs.
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={num_cpus}", *more]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    return _start(command, environment, "127.0.0.1")


def _start(command: Sequence[str], environment: Mapping[str, str], host: str) -> Node:
    """Ray gives a raylet 30 s to come up, whatever the machine is doing: three tries."""
    for _ in range(3):
        node, started = _launch(command, environment, host)
        while node.running and not started.wait(0.5):
            node.processes()
        if node.running:
            return node
        node.kill()
    raise AssertionError(f"the node {host} did not start: " + "".join(node.output))


def _launch(command: Sequence[str], environment: Mapping[str, str], host: str) -> tuple[Node, threading.Event]:
    process = subprocess.Popen(
        command,
        env=node_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    node = Node(process, host)
    started = threading.Event()

    def read() -> None:
        # To the end: a pipe that nobody reads would stop the node.
        assert process.stdout is not None
        for line in process.stdout:
            node.output.append(line)
            if "--block" in line:
                started.set()

    threading.Thread(target=read, daemon=True).start()
    return node, started
