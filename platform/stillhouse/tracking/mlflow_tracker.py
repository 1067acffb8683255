"""The record in MLflow, through its client: no active run, no global state."""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stillhouse.errors import TrackingError
from stillhouse.recipe.address import check_address
from stillhouse.tracking.base import Dataset, Point, Status, point_key
from stillhouse.tracking.process import this_process
from stillhouse.tracking.views import EXPERIMENT_TAGS, NOTE, View, tag_of

KEY = "stillhouse.key"
PROCESS = "stillhouse.process"
HEARTBEAT = "stillhouse.heartbeat"
HEARTBEAT_S = 60.0
MAX_PARAM = 6000
MAX_POINTS = 1000
MAX_PARAMS = 100
CONFLICT_PAUSES_S = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Between tries of a call whose transaction met another's."""

P = ParamSpec("P")
R = TypeVar("R")


class UnreachableError(TrackingError):
    """The store is down or busy; the same call may succeed later."""


class ConflictError(TrackingError):
    """The store's database did not take a call beside another that wrote the same; a moment later it does."""


def again(method: Callable[P, R]) -> Callable[P, R]:
    """Try a call again after a conflict. Each may be made twice: runs are found by key, equal points stand once.

    A call that takes longer than its client waits for it is sent again while the first is still at work.
    """

    @functools.wraps(method)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for pause in CONFLICT_PAUSES_S:
            try:
                return method(*args, **kwargs)
            except ConflictError:
                time.sleep(pause)
        return method(*args, **kwargs)

    return tried


class MlflowTracker:
    """Runs of one experiment. Every run it opens gets a heartbeat, so that what a kill leaves open can be closed."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = absolute_uri(uri)
        self.experiment = experiment
        self._client: Any = None
        self._experiment_id = ""
        self._open: set[str] = set()
        self._beat: threading.Thread | None = None
        self._params: dict[str, dict[str, str]] = {}

    @again
    def run(self, key: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Find the run of this key, or create it; return its id. A run that was killed or failed is opened again."""
        alive = {PROCESS: this_process(), HEARTBEAT: str(int(time.time()))}
        lineage = {"mlflow.parentRunId": parent} if parent else {}
        with self._connected() as client:
            found = client.search_runs([self._experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1)
            if not found:
                every = {KEY: key, **alive, **lineage, **(tags or {})}
                run_id = str(client.create_run(self._experiment_id, tags=every, run_name=name).info.run_id)
            else:
                run_id = found[0].info.run_id
                self._params[run_id] = dict(found[0].data.params)
                if found[0].info.status != "FINISHED":
                    client.update_run(run_id, status="RUNNING")
                self._tag(run_id, {**alive, **lineage, **(tags or {})})
        self._open.add(run_id)
        self._start_beating()
        return run_id

    @again
    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log parameters once. Values over 6000 characters are cut; the whole stands in `params/<key>.txt`."""
        from mlflow.entities import Param

        with self._connected() as client:
            if run_id not in self._params:
                self._params[run_id] = dict(client.get_run(run_id).data.params)
            known, new = self._params[run_id], {}
            for key, value in params.items():
                whole = as_text(value)
                text = whole if len(whole) <= MAX_PARAM else whole[: MAX_PARAM - 3] + "..."
                if key in known and known[key] != text:
                    raise TrackingError(
                        f"run {run_id}: param {key} is {known[key]!r}, it cannot become {text!r}; "
                        "another configuration needs a run of its own"
                    )
                if key not in known:
                    new[key] = text
                    if whole != text:
                        client.log_text(run_id, whole, f"params/{key}.txt")
            entities = [Param(key, text) for key, text in new.items()]
            for start in range(0, len(entities), MAX_PARAMS):
                client.log_batch(run_id, params=entities[start : start + MAX_PARAMS])
            known.update(new)

    @again
    def points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points in batches of 1000; a point that is there already is left out by MLflow."""
        from mlflow.entities import Metric

        metrics = [Metric(point_key(one.name), one.value, int(one.time * 1000), one.step) for one in points]
        with self._connected() as client:
            for start in range(0, len(metrics), MAX_POINTS):
                client.log_batch(run_id, metrics=metrics[start : start + MAX_POINTS])

    @again
    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a file, or all files of a folder, under `folder`."""
        with self._connected() as client:
            (client.log_artifacts if path.is_dir() else client.log_artifact)(run_id, str(path), folder or None)

    @again
    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags; of one that is there already the value is replaced."""
        with self._connected():
            self._tag(run_id, tags)

    @again
    def datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Say what the run reads; MLflow keeps a dataset of one name and digest once."""
        from mlflow.entities import Dataset as Entity
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        inputs = [
            DatasetInput(
                # A source of the kind `code`: MLflow opens no file of it.
                Entity(
                    one.name,
                    one.digest,
                    "code",
                    json.dumps({"tags": {"collection": one.name}}),
                    profile=as_text(one.facts),
                ),
                [InputTag(MLFLOW_DATASET_CONTEXT, one.context)],
            )
            for one in datasets
        ]
        with self._connected() as client:
            client.log_inputs(run_id, inputs)

    @again
    def note(self, run_id: str, text: str) -> None:
        """Set the run's description, in Markdown; `{experiment}` and `{run}` become the ids, for links."""
        with self._connected():
            self._tag(run_id, {NOTE: text.replace("{experiment}", self._experiment_id).replace("{run}", run_id)})

    @again
    def view(self, view: View) -> None:
        """Keep a view of a search among those that the experiment's page lists; one of the same key is replaced."""
        with self._connected() as client:
            client.set_experiment_tag(self._experiment_id, *tag_of(view))

    @again
    def end(self, run_id: str, status: Status = "FINISHED", tags: Mapping[str, str] | None = None) -> None:
        """Close the run."""
        self._open.discard(run_id)
        with self._connected():
            self._tag(run_id, tags or {})
            self._client.set_terminated(run_id, status)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The client, its experiment found or made; what MLflow raises becomes one line."""
        try:
            if self._client is None:
                self._client = open_client(self.uri)
                self._experiment_id = find_experiment(self._client, self.uri, self.experiment)
            yield self._client
        except TrackingError:
            raise
        except Exception as error:  # MLflow lets those of its store, of HTTP and of the file system through
            if is_conflict(error):
                raise ConflictError(f"MLflow at {self.uri}: {first_line(error)}") from error
            if is_refusal(error):
                raise TrackingError(f"MLflow at {self.uri}: {refusal(error)}") from error
            said = "no answer" if self.uri.startswith("http") else first_line(error)
            raise UnreachableError(f"MLflow at {self.uri}: {said}; check tracking.uri and that it runs") from error

    def _start_beating(self) -> None:
        if self._beat is None:
            self._beat = threading.Thread(target=self._beat_for_ever, name="mlflow-heartbeat", daemon=True)
            self._beat.start()

    def _beat_for_ever(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            for run_id in list(self._open):
                try:
                    self._client.set_tag(run_id, HEARTBEAT, str(int(time.time())))
                except Exception as error:  # a missed beat is no loss: ten of them in a row make a run stale
                    logging.getLogger(__name__).debug("heartbeat of run %s: %s", run_id, error)


def absolute_uri(uri: str) -> str:
    """A SQLite URI that means the same file whatever the working directory becomes; TrackingError if it has a login."""
    try:
        check_address(uri)
    except ValueError as error:
        raise TrackingError(f"tracking URI: {error}") from None
    prefix = "sqlite:///"
    if not uri.startswith(prefix) or uri.startswith(f"{prefix}:memory:"):
        return uri
    return prefix + str(Path(uri.removeprefix(prefix)).absolute())


def database(uri: str) -> Path | None:
    """The file of an absolute SQLite URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:////") else None


def open_client(uri: str) -> Any:
    """An MlflowClient without telemetry and without the migration log; the import takes 1.3 s."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Its own seven retries hold a call for minutes; we try again ourselves where nobody waits.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # It would print two lines for each run that ends.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    file = database(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # its import sets the level again
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def find_experiment(client: Any, uri: str, name: str) -> str:
    """The id of an experiment, made if there is none; artifacts of a SQLite store lie beside it."""
    file = database(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            place = (file.parent / "mlartifacts").as_uri() if file else None
            return str(client.create_experiment(name, place, tags=EXPERIMENT_TAGS))
        except Exception:
            found = client.get_experiment_by_name(name)  # another process made it first
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(f"MLflow at {uri}: experiment {name} was deleted; restore it or name another one")
    return str(found.experiment_id)


def is_conflict(error: Exception) -> bool:
    """Whether a transaction met another's: MLflow calls what its database says then a bad request."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code == "BAD_REQUEST"


def is_refusal(error: Exception) -> bool:
    """Whether the store answered and said no (HTTP 4xx), so that trying again is no use."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.get_http_status_code() < 500


def refusal(error: Any) -> str:
    """What the store said, in one line."""
    if error.get_http_status_code() == HTTPStatus.UNAUTHORIZED:
        return "wants a login; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return first_line(error)


def as_text(value: Any) -> str:
    """A parameter's value as MLflow keeps it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def first_line(error: BaseException) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
