"""A team's tracking server, of real programs: PostgreSQL, an S3 server, MLflow with a login; eight writers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import stillhouse
from stillhouse.errors import TrackingError
from stillhouse.tracking import MlflowTracker
from stillhouse.tracking.mlflow_tracker import open_client
from tests.cluster import postgres
from tests.cluster.mlflow_server import start_server, stop
from tests.cluster.tracking_writer import EXPERIMENT, STEPS, files, loss, measures, shared
from tests.contracts.ports import free_port
from tests.contracts.s3_server import S3Server

WRITERS = 8
LOGIN = {"MLFLOW_TRACKING_USERNAME": "distiller", "MLFLOW_TRACKING_PASSWORD": "the-login-that-no-record-may-show"}
PROGRAMS = postgres.programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL here (initdb; Debian: apt install postgresql)")


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Database]:
    pytest.importorskip("psycopg", reason="no psycopg here (pip install 'stillhouse[server]')")
    pytest.importorskip("flask_wtf", reason="no Flask-WTF here (pip install 'stillhouse[server]')")
    assert PROGRAMS is not None
    with postgres.serving(PROGRAMS) as one:
        yield one


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Server]:
    server = S3Server().start()
    server.bucket("artifacts")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(database: postgres.Database, bucket: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the MLflow server; only it knows the database's password and the bucket's keys."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    arguments = ["--workers", "2", "--artifacts-destination", "s3://artifacts/mlflow", "--app-name", "basic-auth"]
    accounts = folder / "accounts.ini"
    accounts.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder}/accounts.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secrets = {
        "PGPASSWORD": postgres.PASSWORD,
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "MLFLOW_AUTH_ADMIN_USERNAME": LOGIN["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": LOGIN["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs the forms of its pages",
    }
    process = start_server(folder, database.uri, port, *arguments, environment=bucket.environment() | secrets)
    yield f"http://127.0.0.1:{port}"
    stop(process)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


def start_writer(uri: str, parent: str, index: int, *how: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.cluster.tracking_writer", uri, parent, str(index), *how]
    package = Path(stillhouse.__file__).parents[1]
    path = [str(package), str(package.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def history(client: Any, run_id: str, name: str) -> list[tuple[int, float, int]]:
    return [(one.step, one.value, one.timestamp) for one in client.get_metric_history(run_id, name)]


def expected(points: list[Any]) -> list[tuple[int, float, int]]:
    return [(one.step, one.value, int(one.time * 1000)) for one in points]


@pytest.fixture
def recorded(server: str, login: None) -> tuple[str, str, list[str]]:
    """Eight writers have recorded, one of them killed in the middle and started again: server, parent, trials."""
    tracker = MlflowTracker(server, EXPERIMENT)
    parent = tracker.run("search", "search")
    writers = [start_writer(server, parent, index, *(["slow"] if index == 0 else [])) for index in range(WRITERS)]
    client = open_client(server)
    try:
        kill_in_the_middle(client, writers[0])
        writers[0] = start_writer(server, parent, 0)
        said = [writer.communicate(timeout=600) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
    tracker.end(parent)
    assert not any(writer.returncode for writer in writers), [err[-1500:] for _, err in said]
    return server, parent, [out.strip() for out, _ in said]


def kill_in_the_middle(client: Any, writer: subprocess.Popen) -> None:
    """SIGKILL when half of its curve has arrived."""
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    writer.kill()
    writer.communicate()
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment], "tags.`stillhouse.key` = 'trial/0'")
    assert run.info.status == "RUNNING"
    assert STEPS // 2 <= len(client.get_metric_history(run.info.run_id, "train/loss")) < STEPS


def test_no_point_and_no_file_is_lost_or_doubled(
    recorded: tuple[str, str, list[str]], database: postgres.Database, bucket: S3Server, tmp_path: Path
) -> None:
    server, parent, trials = recorded
    client = open_client(server)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = client.search_runs([experiment])
    assert {run.info.run_id for run in runs} == {parent, *trials}
    assert len(runs) == 1 + WRITERS

    for index, run_id in enumerate(trials):
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"seed": str(index), "loss.name": "kl"}
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert set(run.data.metrics) == {"train/loss", "dev/nDCG_at_10"}
        assert history(client, run_id, "train/loss") == expected(loss(index))
        assert history(client, run_id, "dev/nDCG_at_10") == expected(measures(index))
        assert run.data.metrics["train/loss"] == loss(index)[-1].value
        folder = Path(client.download_artifacts(run_id, "", str(tmp_path / str(index))))
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert found == files(index)

    of_all = [point for index in range(WRITERS) for point in shared(index)]
    assert sorted(history(client, parent, "search/seconds")) == expected(of_all)
    # Past MLflow's client: the rows of the database, and the objects of the bucket.
    rows = sum(len(loss(index)) + len(measures(index)) + len(shared(index)) for index in range(WRITERS))
    query = f"select count(*) from metrics join runs using (run_uuid) where experiment_id = {experiment}"
    assert count(database, query) == rows
    assert stored(bucket) == sorted(content for index in range(WRITERS) for content in files(index).values())


def test_the_same_points_from_several_at_a_time(server: str, login: None) -> None:
    """A call that its client gave up on is sent again while the first is still at work."""
    tracker = MlflowTracker(server, "twice")
    run = tracker.run("twice", "twice")
    with ThreadPoolExecutor(WRITERS) as threads:
        sent = [threads.submit(MlflowTracker(server, "twice").points, run, loss(0)) for _ in range(WRITERS)]
    for one in sent:
        one.result()
    tracker.end(run)
    assert history(open_client(server), run, "train/loss") == expected(loss(0))


def count(database: postgres.Database, query: str) -> int:
    import psycopg

    connection = psycopg.connect(database.uri.replace("+psycopg", ""), password=postgres.PASSWORD)
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def stored(bucket: S3Server) -> list[bytes]:
    import boto3

    names = bucket.environment()
    client = boto3.client(
        "s3",
        endpoint_url=names["AWS_ENDPOINT_URL"],
        region_name=names["AWS_DEFAULT_REGION"],
        aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
    )
    listed = client.list_objects_v2(Bucket="artifacts")["Contents"]
    return sorted(client.get_object(Bucket="artifacts", Key=one["Key"])["Body"].read() for one in listed)


def test_a_missing_or_wrong_login_is_one_line(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrackingError) as caught:
        MlflowTracker(server, EXPERIMENT).run("other", "other")
    said = f"MLflow at {server}: wants a login; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    assert str(caught.value) == said
    with monkeypatch.context() as wrong:
        wrong.setenv("MLFLOW_TRACKING_USERNAME", LOGIN["MLFLOW_TRACKING_USERNAME"])
        wrong.setenv("MLFLOW_TRACKING_PASSWORD", "not it")
        with pytest.raises(TrackingError, match="wants a login"):
            MlflowTracker(server, EXPERIMENT).run("other", "other")
