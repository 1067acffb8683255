"""`stillhouse ui`: a real MLflow server on the loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

import stillhouse
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking import open_tracker
from tests.contracts.left_open import leave_open, status_of

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(stillhouse.__file__).parents[1])}


def test_the_server_shows_the_record_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = open_tracker(TrackingSpec(uri=uri, experiment="toy"))
    tracker.end(tracker.run("key", "the run"))
    killed = leave_open(uri, "killed")
    command = [sys.executable, "-m", "stillhouse", "ui", "--tracking", uri, "--port", "0"]
    # A shell's background job ignores Ctrl-C, and hands that down.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=listen) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert line.startswith("The MLflow UI is at http://127.0.0.1:")
            url = next(word for word in line.split() if word.startswith("http"))
            body = b'{"max_results": 10}'
            search = Request(f"{url}/api/2.0/mlflow/experiments/search", body, {"Content-Type": "application/json"})
            with urlopen(search, timeout=30) as answer:
                assert b'"toy"' in answer.read()
            assert status_of(uri, killed) == "KILLED", "what a kill left open is closed before it is shown"
            port = int(url.rpartition(":")[2])
            assert listening(port) == {"127.0.0.1"}
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=900) == 130
    assert not listening(port), "no process of it is left"


def listening(port: int) -> set[str]:
    """The addresses on which this machine listens at a port."""
    found = psutil.net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN and one.laddr.port == port}


def test_a_port_in_use_is_one_line(call: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = call("ui", "--tracking", f"sqlite:///{tmp_path}/mlflow.db", "--port", str(port))
    assert done.status == 1
    assert done.err == f"error: port {port} is in use; choose another with --port, or --port 0\n"


def test_a_server_elsewhere_is_named(call: Callable[..., Any]) -> None:
    assert call("ui", "--tracking", "http://mlflow.example:5000").out == "The record is at http://mlflow.example:5000\n"
