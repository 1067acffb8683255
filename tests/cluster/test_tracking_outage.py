"""A real MLflow server that is killed and started again while a search records."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.errors import TrackingError
from stillhouse.tracking import MlflowTracker, Point, QueuedTracker
from stillhouse.tracking.mlflow_tracker import open_client
from tests.cluster.mlflow_server import free_port, start_server, stop


def test_points_of_an_outage_arrive_when_the_server_is_back(
    tmp_path: Path, mlflow_template: Callable[[Path], str]
) -> None:
    store, port = mlflow_template(tmp_path), free_port()
    uri = f"http://127.0.0.1:{port}"
    server = start_server(tmp_path, store, port)
    try:
        tracker = QueuedTracker(MlflowTracker(uri, "toy"))
        before = tracker.run("before", "before")
        tracker.points(before, [Point("train/loss", 1.0, 0, 1000.0)])
        tracker.flush()
        assert tracker.delivered(before) is not None
    finally:
        stop(server)

    started = time.monotonic()
    during = tracker.run("during", "during", parent=before)
    tracker.params(during, {"temperature": 2.0})
    for step in range(1, 50):
        tracker.points(before, [Point("train/loss", 1 / (step + 1), step, 1000.0 + step)])
        tracker.points(during, [Point("dev/nDCG@10", step / 100, step, 1000.0 + step)])
    tracker.end(during, tags={"trial_state": "PRUNED"})
    assert time.monotonic() - started < 1.0
    assert tracker.delivered(during) is None
    with pytest.raises(TrackingError, match=r"entries wait: run the same command again"):
        tracker.flush(patience_s=2.0)

    server = start_server(tmp_path, store, port)
    try:
        tracker.flush(patience_s=60.0)
        client = open_client(uri)
        ids = {handle: tracker.delivered(handle) or "" for handle in (before, during)}
        losses = client.get_metric_history(ids[before], "train/loss")
        assert [(one.step, one.value) for one in losses] == [(step, 1 / (step + 1)) for step in range(50)]
        measures = client.get_metric_history(ids[during], "dev/nDCG_at_10")
        assert [(one.step, one.value) for one in measures] == [(step, step / 100) for step in range(1, 50)]
        run = client.get_run(ids[during])
        assert run.info.status == "FINISHED"
        assert run.data.params == {"temperature": "2.0"}
        assert run.data.tags["trial_state"] == "PRUNED"
        assert run.data.tags["mlflow.parentRunId"] == ids[before]
    finally:
        stop(server)


def test_what_is_refused_is_said_at_the_end_and_the_rest_is_recorded(
    tmp_path: Path, mlflow_template: Callable[[Path], str]
) -> None:
    inner = MlflowTracker(mlflow_template(tmp_path), "toy")
    tracker = QueuedTracker(inner)
    run = tracker.run("run", "run")
    tracker.params(run, {"temperature": 2.0})
    tracker.params(run, {"temperature": 3.0})
    tracker.end(run)
    with pytest.raises(
        TrackingError, match=r"the record is not complete: .*temperature is '2.0', it cannot become '3.0'"
    ):
        tracker.flush()
    assert open_client(inner.uri).get_run(tracker.delivered(run) or "").info.status == "FINISHED"
