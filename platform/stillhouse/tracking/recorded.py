"""Reading the record: what a run left in MLflow, by its id."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from stillhouse.errors import TrackingError
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking.base import point_key
from stillhouse.tracking.mlflow_tracker import absolute_uri, database, first_line, open_client

Series = dict[str, list[tuple[float, float]]]
"""Name of a metric -> (step, value)."""

_FILES = ("results.json", "record.json", "recipe.yaml", "recipe.json", "environment.json")
_FOLDERS = ("runs",)
_CURVES = ("student/curve.jsonl", "student/evaluations.jsonl")


@dataclass(frozen=True)
class RecordedRun:
    """A run with the folder of its artifacts on this machine."""

    run_id: str
    name: str
    parent: str | None
    folder: Path
    tags: dict[str, str] = field(default_factory=dict)


def is_run_id(name: str) -> bool:
    """Whether a name looks like the id of an MLflow run: 32 hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{32}", name) is not None


def store_uri(tracking_uri: str | None = None) -> str:
    """The store that is named, else MLFLOW_TRACKING_URI, else a recipe's default."""
    return absolute_uri(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or TrackingSpec().uri)


def recorded_run(run_id: str, tracking_uri: str | None = None) -> RecordedRun:
    """A run by its id; what lies on another machine is copied till this process ends. TrackingError for no such run."""
    with _reading(store_uri(tracking_uri), f"run {run_id}") as client:
        run = client.get_run(run_id)
        parent = run.data.tags.get("mlflow.parentRunId")
        parsed = urlparse(run.info.artifact_uri)
        here = parsed.scheme in ("", "file")
        folder = Path(unquote(parsed.path)) if here else _copy(client, run_id)
        return RecordedRun(run_id, str(run.info.run_name), parent, folder, dict(run.data.tags))


def children_of(run_id: str, tracking_uri: str | None = None) -> list[tuple[str, str]]:
    """(name, run id) of the trainings and trials that a run has made, in the order they began."""
    with _reading(store_uri(tracking_uri), f"run {run_id}") as client:
        experiment = client.get_run(run_id).info.experiment_id
        asked = f"tags.`mlflow.parentRunId` = '{run_id}'"
        found = client.search_runs([experiment], asked, order_by=["attributes.start_time ASC"])
        return [(str(run.info.run_name), str(run.info.run_id)) for run in found]


def recorded_series(run_id: str, metric: str, tracking_uri: str | None = None) -> list[tuple[int, float]]:
    """(step, value) of one metric of a run, by step; empty where it has none."""
    with _reading(store_uri(tracking_uri), f"run {run_id}") as client:
        return sorted((int(one.step), float(one.value)) for one in client.get_metric_history(run_id, metric))


def recorded_curves(
    run_ids: Sequence[str], measures: Sequence[str], tracking_uri: str | None = None
) -> dict[str, Series]:
    """Curves by the names of the runs: `loss` of the training, and each measure on dev under its own name."""
    wanted = {"loss": "train/loss"} | {measure: point_key(measure) for measure in measures}
    with _reading(store_uri(tracking_uri), "curves") as client:
        found: dict[str, Series] = {}
        for run_id in run_ids:
            run = client.get_run(run_id)
            logged = run.data.metrics
            found[str(run.info.run_name)] = {
                key: sorted((float(one.step), float(one.value)) for one in client.get_metric_history(run_id, metric))
                for key, metric in wanted.items()
                if metric in logged
            }
        return found


@contextmanager
def _reading(uri: str, what: str) -> Iterator[Any]:
    file = database(uri)
    if file is not None and not file.exists():
        raise TrackingError(
            f"{what}: no MLflow store at {file}; name the one that holds it: MLFLOW_TRACKING_URI=sqlite:///path/mlflow.db"
        )
    try:
        yield open_client(uri)
    except TrackingError:
        raise
    except Exception as error:  # of its store, of HTTP and of the file system
        raise TrackingError(f"{what}: MLflow at {uri} does not give it: {first_line(error)}") from error


def _copy(client: Any, run_id: str) -> Path:
    """Only what a report reads: JSON, YAML and TREC files."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    there = {entry.path for entry in client.list_artifacts(run_id)}
    if "student" in there:
        there |= {entry.path for entry in client.list_artifacts(run_id, "student")}
    for path in (*_FILES, *_FOLDERS, *_CURVES):
        if path in there:
            client.download_artifacts(run_id, path, str(folder))
    return folder
