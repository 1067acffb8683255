"""A real MLflow server that is killed and started again while a search records."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from stillhouse.errors import TrackingError
from stillhouse.recipe import Recipe
from stillhouse.search.record import Trial
from stillhouse.tracking import MlflowTracker, Point, QueuedTracker
from stillhouse.tracking.mlflow_tracker import open_client
from tests.cluster import study_driver as toy
from tests.cluster.mlflow_server import start_server, stop
from tests.contracts.ports import free_port


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


class Slow:
    """The curve whose answer is known; of one trial, the process is killed after its third report."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        def noted(metrics: dict[str, float], step: int) -> None:
            report(metrics, step)
            if step == 30 and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        toy.Curve(seconds=0.1)(recipe, trial_key, checkpoint_dir, noted)


@pytest.mark.usefixtures("cluster")
def test_a_search_goes_on_without_its_server_and_records_all_of_it(
    tmp_path: Path, mlflow_template: Callable[[Path], str]
) -> None:
    """The server dies after the first trial and comes back after the third; a trial's process dies in between."""
    ray.cloudpickle.register_pickle_by_value(toy)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store, port = mlflow_template(tmp_path), free_port()
    uri = f"http://127.0.0.1:{port}"
    servers = [start_server(tmp_path, store, port)]
    ended: list[int] = []

    def disturb(trial: Trial) -> None:
        ended.append(trial.number)
        if len(ended) == 1:
            stop(servers[0])
        if len(ended) == 3:
            servers.append(start_server(tmp_path, store, port))

    try:
        tracker = MlflowTracker(uri, "toy")
        marker = tmp_path / "marker"
        result = toy.search(tmp_path, tracker, toy.space(trials=4), Slow(marker), at_a_time=1, progress=disturb)
        assert marker.exists()
        client = open_client(uri)
        runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
        children = {run.info.run_id: run for run in runs if run.info.run_name != "search"}
        assert set(children) == {trial.run_id for trial in result.trials}
        for trial in result.trials:
            assert (trial.state, children[trial.run_id].info.status) == ("FINISHED", "FINISHED")
            found = client.get_metric_history(trial.run_id, "dev/nDCG_at_10")
            temperature, evaluations = trial.values[toy.TEMPERATURE], range(1, toy.EVALUATIONS + 1)
            assert [one.step for one in found] == [10 * number for number in evaluations]
            expected = [toy.curve(temperature, number) for number in evaluations]
            assert [one.value for one in found] == pytest.approx(expected)
    finally:
        stop(servers[-1])


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
