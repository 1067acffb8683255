"""Ray Jobs: what a job needs is packed, sent to a cluster, watched and stopped."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stillhouse.artifacts import stable_hash
from stillhouse.environment import environment
from stillhouse.errors import ClusterError
from stillhouse.recipe import Recipe, find_file, load_recipe, shipped_files
from stillhouse.versions import ANSWER_SECONDS, MARK, versions

VERBS = ("run", "score", "train", "tune", "evaluate")
_FAILED = 1
_CARRIED = (".py", ".typed", ".j2")
"""The package's files are of these kinds; anything else that lies in its folder is somebody's own."""
AGENT_SECONDS = 60.0
"""How long a submission waits for the head to be able to start jobs."""


def probe(*, verbose: bool = False, limit_s: float = 120.0) -> tuple[dict[str, float], dict[str, str]]:
    """Connect to RAY_ADDRESS or start Ray here; the resources, and the versions that a worker has."""
    import ray

    address = os.environ.get("RAY_ADDRESS")
    level = logging.INFO if verbose else logging.CRITICAL
    start: dict[str, Any] = {} if address else {"include_dashboard": False}
    ray.init(address=address or "local", log_to_driver=verbose, logging_level=level, **start)
    try:
        found = ray.get(ray.remote(versions).remote(), timeout=limit_s)
        return dict(ray.cluster_resources()), found
    finally:
        ray.shutdown()


@contextmanager
def packed(recipe: str, overrides: Sequence[str], space: str | None = None) -> Iterator[tuple[Path, Path, list[str]]]:
    """What a job takes along: (working folder, package folder, arguments that name the files in it).

    The folder holds the recipe and, where it is a file of the user's, the search space; the package carries the
    shipped ones. Nothing else leaves this machine: no data, no environment, no checkout.
    """
    loaded = load_recipe(recipe, overrides)
    with TemporaryDirectory(prefix="stillhouse-job-") as folder:
        files, package = Path(folder, "files"), Path(folder, "stillhouse")
        files.mkdir()
        source = find_file(recipe, "jobs/recipes")
        shutil.copyfile(source, files / source.name)
        arguments = [source.name, *(f"--set={text}" for text in overrides)]
        chosen = space or (loaded.search.space if loaded.search else None)
        if chosen is not None:
            space_file = find_file(chosen, "search_spaces")
            name = space_file.name if space_file.name != source.name else f"space-{space_file.name}"
            shutil.copyfile(space_file, files / name)
            arguments += [f"--space={name}"] if space else [f"--set=search.space={name}"]
        _copy_package(package)
        yield files, package, arguments


def relative_paths(recipe: Recipe) -> list[str]:
    """The keys whose paths mean another place on a cluster: a job's working folder is thrown away."""
    paths = {"output.path": recipe.output.path, "store.path": recipe.store.path}
    if recipe.tracking.uri.startswith("sqlite:///"):
        paths["tracking.uri"] = recipe.tracking.uri.removeprefix("sqlite:///")
    return [key for key, path in paths.items() if "://" not in path and not Path(path).is_absolute()]


def workspace_env(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Models and texts of a job go where all nodes see them: `.stillhouse` beside the scores, else into the results."""
    for place in (Path(recipe.store.path).parent, Path(recipe.output.path)):
        if place.is_absolute():
            return {"env_vars": {"STILLHOUSE_HOME": str(place / ".stillhouse")}}
    return {}


def _copy_package(target: Path) -> None:
    """The installed package with the files it ships, as a wheel would hold it."""

    def others(folder: str, names: list[str]) -> list[str]:
        folders = {name for name in names if Path(folder, name).is_dir() and name[0] not in "._"}
        return [name for name in names if name not in folders and not name.endswith(_CARRIED)]

    shutil.copytree(Path(__file__).parent, target, ignore=others)
    for folder in ("jobs/recipes", "search_spaces", "suites"):
        shipped = target / "shipped" / Path(folder).name
        shipped.mkdir(parents=True, exist_ok=True)
        for path in shipped_files(folder):
            shutil.copyfile(path, shipped / path.name)


def submit(
    verb: str, recipe: str, overrides: Sequence[str], more: Sequence[str], address: str, space: str | None
) -> str:
    """Send a job; returns its id."""
    if verb not in VERBS:
        raise ClusterError(f"job submit {verb}: expected one of {', '.join(VERBS)}")
    with packed(recipe, overrides, space) as (files, package, arguments), _client(address) as client:
        return _send(
            client,
            ["python", "-m", "stillhouse", verb, *arguments, *more],
            {"working_dir": str(files), "py_modules": [str(package)]} | workspace_env(load_recipe(recipe, overrides)),
            {"stillhouse": verb, "recipe": recipe},
        )


def _send(client: Any, command: Sequence[str], runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Submit; a head that cannot start jobs yet is waited for."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(
                client.submit_job(
                    entrypoint=shlex.join(command), runtime_env=dict(runtime_env), metadata=dict(metadata)
                )
            )
        except RuntimeError as error:
            # The head answers before its agent, which starts jobs, has come up.
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def node_versions(address: str, limit_s: float = 2 * ANSWER_SECONDS) -> list[dict[str, Any]]:
    """Name, resources and versions of every node, head first, as a job there that needs no CPU finds them."""
    with TemporaryDirectory(prefix="stillhouse-check-") as folder, _client(address) as client:
        script = Path(__file__).with_name("versions.py")
        shutil.copyfile(script, Path(folder, script.name))
        job = _send(client, ["python", script.name], {"working_dir": folder}, {"stillhouse": "doctor"})
        deadline = time.monotonic() + limit_s
        while not client.get_job_status(job).is_terminal():
            if time.monotonic() > deadline:
                client.stop_job(job)
                raise ClusterError(f"{address}: the nodes did not tell their versions in {limit_s:g} s ({job})")
            time.sleep(0.3)
        printed = str(client.get_job_logs(job)).strip().splitlines()
        message = client.get_job_info(job).message
    told = next((line for line in printed if line.startswith(MARK)), None)
    if told is None:
        raise ClusterError(f"{address}: {job} found no versions: {([message or 'no output', *printed])[-1]}")
    found: list[dict[str, Any]] = json.loads(told.removeprefix(MARK))["nodes"]
    return found


def nodes_key(address: str) -> str:
    """Names the cluster as it stands, seen with the versions here; another node or another start gives another."""
    with _client(address):
        from ray.util.state import list_nodes
        from ray.util.state.exception import RayStateApiException

        try:
            found = list_nodes(address=address, limit=10_000)
        except RayStateApiException as error:
            raise ClusterError(f"{address}: its nodes cannot be listed: {' '.join(str(error).split())[:200]}") from None
    alive = sorted(node.node_id for node in found if node.state == "ALIVE")
    return stable_hash({"address": address, "nodes": alive, "here": versions()})


def status(job: str, address: str) -> tuple[str, int]:
    """A job's state, and the exit status that it has or stands for."""
    with _client(address) as client:
        details = client.get_job_info(job)
    state = str(details.status.value)
    if state == "SUCCEEDED":
        return state, 0
    code = details.driver_exit_code
    return state, code if state == "FAILED" and code else 0 if state in ("PENDING", "RUNNING") else _FAILED


def logs(job: str, address: str, *, follow: bool = False) -> None:
    """Print what a job has printed; `follow` stays until it ends."""
    import asyncio

    with _client(address) as client:
        if not follow:
            sys.stdout.write(client.get_job_logs(job))
            return
        asyncio.run(_tail(client.tail_job_logs(job)))


async def _tail(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()


def stop(job: str, address: str) -> bool:
    """Ask a job to stop; False if it had ended."""
    with _client(address) as client:
        return bool(client.stop_job(job))


def jobs(address: str) -> list[dict[str, str]]:
    """The jobs of a cluster, newest first: id, state, command, start."""
    from datetime import UTC, datetime

    with _client(address) as client:
        found = [one for one in client.list_jobs() if one.submission_id]
    return [
        {
            "job": str(one.submission_id),
            "state": str(one.status.value),
            "started": datetime.fromtimestamp((one.start_time or 0) / 1000, UTC).isoformat(timespec="seconds"),
            "command": str(one.entrypoint),
        }
        for one in sorted(found, key=lambda one: one.start_time or 0, reverse=True)
    ]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A client of Ray Jobs; what it raises becomes one line."""
    token = Path("~/.ray/auth_token").expanduser()
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or token.exists():
        # Ray 2.60 sends the token only when told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Ray tells at INFO what it uploads, and that a log has ended; its modules set levels of their own when imported.
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)

    try:
        # Else RAY_ADDRESS, the cluster of this machine's other commands, would win over the address.
        with environment({"RAY_API_SERVER_ADDRESS": address}):
            client = JobSubmissionClient(address)
        yield client
    except AuthenticationError:
        raise ClusterError(
            f"{address}: Ray asks for its token; copy the head's ~/.ray/auth_token here, or set RAY_AUTH_TOKEN"
        ) from None
    except ConnectionError:
        raise ClusterError(
            f"{address}: no Ray dashboard answers; start the cluster, or open a tunnel: `ray dashboard cluster.yaml`"
        ) from None
    except RuntimeError as error:
        # Ray puts the answer of its server, often a whole traceback, into the message.
        text = str(error).strip().splitlines()
        unknown = re.search(r"[Jj]ob (\S+) does not exist", str(error))
        if unknown:
            raise ClusterError(
                f"{address}: job {unknown[1]}: this head knows no such job; a restarted head has forgotten its jobs: "
                "run the same command again, what is finished is kept"
            ) from None
        raise ClusterError(f"{address}: {text[-1] if text else type(error).__name__}") from None
