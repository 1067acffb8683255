"""A real MLflow server as a process group of its own, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def start_server(
    folder: Path, store: str, port: int, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Serve a store; its log, and unless `arguments` say otherwise its artifacts, lie in `folder`."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += arguments or ["--workers", "1", "--artifacts-destination", str(folder / "artifacts")]
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("a") as log:
        # A process group of its own, so that its workers die with it.
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | variables | dict(environment or {}),
            start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + 180
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return server
        except OSError:
            time.sleep(0.2)
    stop(server)
    raise AssertionError((folder / "server.log").read_text()[-2000:])


def stop(server: subprocess.Popen) -> None:
    """End it at once, as a crash does."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
