"""Ray nodes on this machine, each a real `ray start` with processes, ports and an address of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import stillhouse
from tests.contracts.ports import free_port

RAY = str(Path(sys.executable).with_name("ray"))
SOURCE = str(Path(stillhouse.__file__).parents[1])


def node_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """What a node starts with: nothing of another cluster's, `python` and `stillhouse` as the tests have them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"PYTHONPATH": SOURCE, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return own | dict(changes)


@contextmanager
def head_node(environment: Mapping[str, str], *, num_cpus: int) -> Iterator[str]:
    """A head with a dashboard of its own; gives the dashboard's address."""
    port = free_port()
    # Ray's own folder: the default one would make every bare `ray.init()` of this machine join this head, and a
    # socket's path is at most 107 characters. The agent's port is fixed by default: two heads would fight over it,
    # and the one that loses takes no jobs.
    with TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        command = [RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}"]
        command += ["--node-ip-address=127.0.0.1", f"--port={free_port()}", f"--num-cpus={num_cpus}"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
        with subprocess.Popen(
            command,
            env=node_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as head:
            assert head.stdout is not None
            try:
                said = []
                for line in head.stdout:
                    said.append(line)
                    if "--block" in line:
                        break
                else:
                    raise AssertionError("the head did not start: " + "".join(said))
                yield f"http://127.0.0.1:{port}"
            finally:
                # Ray's own way down: `--block` ends its children when it is interrupted.
                head.send_signal(signal.SIGTERM)
                head.stdout.read()
                head.wait(timeout=60)
