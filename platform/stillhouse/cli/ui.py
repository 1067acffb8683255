"""`stillhouse ui`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated
from urllib.error import URLError
from urllib.request import urlopen

import typer

from stillhouse.cli.options import VerboseOption
from stillhouse.errors import TrackingError

if TYPE_CHECKING:
    from stillhouse.recipe.tree import TrackingSpec


def ui(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Its tracking.uri is opened; else the default store.")
    ] = None,
    tracking: Annotated[str | None, typer.Option("--tracking", metavar="URI", help="The MLflow store to open.")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 5000,
    verbose: VerboseOption = False,
) -> None:
    """Open the MLflow UI on the record, on this machine only.

    Runs that a kill left open are closed first. Ctrl-C ends the server.

    \b
    Examples:
      stillhouse ui
      stillhouse ui my.yaml --port 5001
    """
    from stillhouse.tracking import close_stale, newest_places

    spec = _spec(recipe, tracking)
    if spec.uri == "none":
        raise TrackingError("tracking.uri is none: this recipe records nothing; set tracking.uri")
    if spec.uri.startswith("http"):
        typer.echo(f"The record is at {spec.uri}")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        with suppress(TrackingError):  # a server that is down is still where the record is
            _tell(newest_places(spec), spec.uri)
        return
    file = Path(spec.uri.removeprefix("sqlite:///")) if spec.uri.startswith("sqlite:///") else None
    if file is not None and not file.exists():
        raise TrackingError(f"{file}: nothing is recorded there yet; run a recipe first, or name --tracking")
    chosen = _free_port(port)
    close_stale(spec)
    places = newest_places(spec)
    # As Ctrl-C: the server ends with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with TemporaryFile() as log:
        # A group of its own: the server's processes end together, and Ctrl-C reaches only this one.
        server = subprocess.Popen(
            _command(spec.uri, file, chosen),
            stdout=None if verbose else log,
            stderr=None if verbose else log,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        try:
            _wait(server, f"http://127.0.0.1:{chosen}")
            typer.echo(f"The MLflow UI is at http://127.0.0.1:{chosen} (Ctrl-C ends it)")
            _tell(places, f"http://127.0.0.1:{chosen}")
            server.wait()
        finally:
            _end(server)


def _tell(places: list[tuple[str, str]], server: str) -> None:
    for name, address in places:
        typer.echo(f"{name}: {server.rstrip('/')}/{address}")


def _spec(recipe: str | None, tracking: str | None) -> TrackingSpec:
    from stillhouse.recipe import load_recipe
    from stillhouse.recipe.tree import TrackingSpec
    from stillhouse.tracking import tracking_spec

    if tracking is not None:
        return tracking_spec(tracking)
    return load_recipe(recipe).tracking if recipe is not None else TrackingSpec()


def _command(uri: str, file: Path | None, port: int) -> list[str]:
    """One worker and the loopback address: the record has no login."""
    absolute = f"sqlite:///{file.absolute()}" if file is not None else uri
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", absolute, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    if file is not None:
        command += ["--artifacts-destination", str(file.absolute().parent / "mlartifacts")]
    return command


def _free_port(port: int) -> int:
    """The port itself if nothing listens there."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are just being closed counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise TrackingError(f"port {port} is in use; choose another with --port, or --port 0") from None
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], url: str, limit_s: float = 120.0) -> None:
    """Until the server answers; it takes about ten seconds to start."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise TrackingError(f"the MLflow server ended with status {server.returncode}; --verbose shows why")
        try:
            with urlopen(f"{url}/health", timeout=2):  # noqa: S310 (our own loopback address)
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise TrackingError(f"the MLflow server did not answer at {url} within {limit_s:g} s")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server with the processes it has started."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
