from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.errors import TrackingError
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking import (
    MlflowTracker,
    NullTracker,
    Point,
    close_stale,
    metric_key,
    newest_places,
    open_tracker,
)
from stillhouse.tracking.mlflow_tracker import HEARTBEAT, PROCESS, absolute_uri, open_client
from stillhouse.tracking.process import is_gone, this_process
from stillhouse.tracking.views import EXPERIMENT_TAGS, View, tag_of, view_address


@pytest.fixture
def tracker(tmp_path: Path, mlflow_template: Callable[[Path], str]) -> MlflowTracker:
    return MlflowTracker(mlflow_template(tmp_path), "toy")


def run_of(tracker: MlflowTracker, run_id: str):
    return open_client(tracker.uri).get_run(run_id)


@pytest.mark.parametrize(
    ("measure", "key"),
    [
        ("nDCG@10", "dev/nDCG_at_10"),
        ("RR(rel=2)@10", "dev/RR_rel2_at_10"),
        ("AP", "dev/AP"),
        ('nDCG(dcg="exp-log2")@10', "dev/nDCG_dcgexp-log2_at_10"),
    ],
)
def test_metric_key(measure: str, key: str) -> None:
    assert metric_key("dev", measure) == key


def test_run_is_found_again_by_key(tracker: MlflowTracker) -> None:
    parent = tracker.run("parent", "search")
    child = tracker.run("child", "trial 0", parent=parent, tags={"one": "1"})
    other = MlflowTracker(tracker.uri, "toy")
    assert other.run("parent", "search") == parent
    assert other.run("child", "trial 0", parent=parent) == child
    data = run_of(tracker, child).data
    assert data.tags["mlflow.parentRunId"] == parent
    assert data.tags["one"] == "1"


def test_keys_of_another_experiment_are_other_runs(tracker: MlflowTracker) -> None:
    assert MlflowTracker(tracker.uri, "other").run("parent", "search") != tracker.run("parent", "search")


def test_params_once(tracker: MlflowTracker) -> None:
    run = tracker.run("a", "a")
    params = {"stages.distill.loss.temperature": 2.5, "measures": ["nDCG@10"], "none": None, "name": "kl"}
    tracker.params(run, params)
    tracker.params(run, params)
    stored = run_of(tracker, run).data.params
    assert stored == {
        "stages.distill.loss.temperature": "2.5",
        "measures": '["nDCG@10"]',
        "none": "null",
        "name": "kl",
    }
    with pytest.raises(TrackingError, match=r"param name is 'kl', it cannot become 'ce'"):
        MlflowTracker(tracker.uri, "toy").params(run, {"name": "ce"})


def test_many_and_long_params(tracker: MlflowTracker) -> None:
    run = tracker.run("a", "a")
    tracker.params(run, {f"p{number}": number for number in range(250)} | {"long": "x" * 7000})
    stored = run_of(tracker, run).data.params
    assert len(stored) == 251
    assert stored["long"] == "x" * 5997 + "..."
    (whole,) = Path(tracker.uri.removeprefix("sqlite:///")).parent.glob("mlartifacts/**/long.txt")
    assert whole.read_text() == "x" * 7000


def test_points_stand_once_however_often_they_are_logged(tracker: MlflowTracker) -> None:
    run = tracker.run("a", "a")
    curve = [Point("train/loss", 1 / (step + 1), step, 1000.0 + step) for step in range(2500)]
    tracker.points(run, [*curve, Point("dev/nDCG@10", 0.4, 10, 2000.0), Point("nDCG@10", 0.5, 20, 2001.0)])
    tracker.points(run, curve[1200:1300])
    client = open_client(tracker.uri)
    logged = client.get_metric_history(run, "train/loss")
    assert [(point.step, point.value) for point in logged] == [(step, 1 / (step + 1)) for step in range(2500)]
    assert [point.value for point in client.get_metric_history(run, "dev/nDCG_at_10")] == [0.4, 0.5]


def test_descriptions_and_views(tracker: MlflowTracker) -> None:
    run = tracker.run("a", "a")
    tracker.note(run, "[here](#/experiments/{experiment}/runs/{run}), {as it is}")
    view = View("key", "Search a", "study", ["x"], [("nDCG@10", "max")], 5.0)
    tracker.view(view)
    found = run_of(tracker, run)
    experiment = found.info.experiment_id
    assert found.data.tags["mlflow.note.content"] == f"[here](#/experiments/{experiment}/runs/{run}), {{as it is}}"
    tags = open_client(tracker.uri).get_experiment(experiment).tags
    assert tags[tag_of(view)[0]] == tag_of(view)[1]
    assert tags.items() >= EXPERIMENT_TAGS.items()
    assert newest_places(TrackingSpec(uri=tracker.uri)) == [
        ("Runs of toy", f"#/experiments/{experiment}/runs?workflowType=machine_learning"),
        ("Search a, its trials side by side", view_address(experiment, "key", charts=True)),
    ]


def test_a_call_that_meets_another_is_made_again(tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's answer when its database refuses a row beside an equal one, from MLflow's own code."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import IntegrityError

    run, tries, log = tracker.run("a", "a"), [], SqlAlchemyStore._log_metrics_once

    def meets_another(store: SqlAlchemyStore, run_id: str, metrics: list) -> None:
        tries.append(len(metrics))
        with store.ManagedSessionMaker(read_only=False):
            if len(tries) <= 2:
                raise IntegrityError("INSERT", {}, Exception("duplicate key"))
        log(store, run_id, metrics)

    monkeypatch.setattr(SqlAlchemyStore, "_log_metrics_once", meets_another)
    tracker.points(run, [Point("train/loss", 0.5, 1, 1000.0)])
    assert tries == [1, 1, 1]
    assert [one.value for one in open_client(tracker.uri).get_metric_history(run, "train/loss")] == [0.5]


def test_status_and_tags_at_the_end(tracker: MlflowTracker) -> None:
    run = tracker.run("a", "a")
    assert run_of(tracker, run).info.status == "RUNNING"
    tracker.end(run, "FAILED", {"trial_state": "FAILED"})
    ended = run_of(tracker, run)
    assert (ended.info.status, ended.data.tags["trial_state"]) == ("FAILED", "FAILED")
    tracker.run("a", "a")
    assert run_of(tracker, run).info.status == "RUNNING"
    tracker.end(run)
    tracker.run("a", "a")
    assert run_of(tracker, run).info.status == "FINISHED"


def test_artifacts(tracker: MlflowTracker, tmp_path: Path) -> None:
    run = tracker.run("a", "a")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "one.txt").write_text("1")
    (tmp_path / "two.txt").write_text("2")
    tracker.artifact(run, tmp_path / "figures", "figures")
    tracker.artifact(run, tmp_path / "two.txt")
    stored = {path.name: path.read_text() for path in tmp_path.glob("mlartifacts/*/artifacts/**/*.txt")}
    assert stored == {"one.txt": "1", "two.txt": "2"}


def test_relative_store_and_its_artifacts_lie_together(tmp_path: Path, monkeypatch, mlflow_template) -> None:
    (tmp_path / ".stillhouse").mkdir()
    mlflow_template(tmp_path / ".stillhouse")
    monkeypatch.chdir(tmp_path)
    tracker = MlflowTracker("sqlite:///.stillhouse/mlflow.db", "toy")
    monkeypatch.chdir("/")
    run = tracker.run("a", "a")
    assert run_of(tracker, run).info.artifact_uri.startswith((tmp_path / ".stillhouse" / "mlartifacts").as_uri())


@pytest.mark.parametrize("uri", ["sqlite:////tmp/a.db", "http://127.0.0.1:5000", "sqlite:///:memory:"])
def test_absolute_uris_stay(uri: str) -> None:
    assert absolute_uri(uri) == uri


def test_store_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_text("this is no database, and long enough to be looked at" * 20)
    with pytest.raises(TrackingError, match=r"MLflow at sqlite:.*check tracking.uri and that it runs") as error:
        MlflowTracker(f"sqlite:///{broken}", "toy").run("a", "a")
    assert "\n" not in str(error.value)


def test_eight_threads_write_no_point_twice_and_lose_none(tracker: MlflowTracker) -> None:
    runs = [tracker.run(f"trial {number}", "t") for number in range(8)]

    def write(number: int) -> None:
        for step in range(10):
            tracker.points(runs[number], [Point("train/loss", float(number), step, 1000.0 + step)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = open_client(tracker.uri)
    for number, run in enumerate(runs):
        logged = client.get_metric_history(run, "train/loss")
        assert sorted((point.step, point.value) for point in logged) == [(step, float(number)) for step in range(10)]


def test_runs_of_a_killed_process_are_closed(tracker: MlflowTracker) -> None:
    code = (
        "import os, signal, sys\n"
        "from stillhouse.tracking import MlflowTracker\n"
        "print(MlflowTracker(sys.argv[1], 'toy').run('killed', 'killed'), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "platform")}
    done = subprocess.run([sys.executable, "-c", code, tracker.uri], capture_output=True, text=True, env=environment)
    killed = done.stdout.strip()
    mine, silent = tracker.run("mine", "mine"), tracker.run("silent", "silent")
    client = open_client(tracker.uri)
    client.set_tag(silent, PROCESS, "another-host:1:1")
    client.set_tag(silent, HEARTBEAT, str(int(time.time()) - 700))
    foreign = client.create_run(run_of(tracker, mine).info.experiment_id).info.run_id

    closed = close_stale(TrackingSpec(uri=tracker.uri))

    assert sorted(closed) == sorted([killed, silent])
    states = {run: run_of(tracker, run).info.status for run in (killed, silent, mine, foreign)}
    assert states == {killed: "KILLED", silent: "KILLED", mine: "RUNNING", foreign: "RUNNING"}


def test_closing_makes_no_store(tmp_path: Path) -> None:
    assert close_stale(TrackingSpec(uri=f"sqlite:///{tmp_path}/none/mlflow.db")) == []
    assert not (tmp_path / "none").exists()


def test_a_process_is_gone_when_its_number_is_another_one() -> None:
    host, pid, start = this_process().rsplit(":", 2)
    assert not is_gone(this_process())
    assert is_gone(f"{host}:{pid}:{int(start) - 100}")
    assert not is_gone(f"elsewhere:{pid}:{int(start) - 100}")


def test_none_records_nothing() -> None:
    tracker = open_tracker(TrackingSpec(uri="none"))
    assert isinstance(tracker, NullTracker)
    run = tracker.run("key", "name")
    tracker.params(run, {"a": 1})
    tracker.end(run)
