"""Rankers kept in MLflow: artifacts of a run, registered models, and what other flavours hold, opened again."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sentence_transformers
import torch

from stillhouse.errors import TrackingError
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.tracking import MlflowTracker
from stillhouse.tracking.mlflow_tracker import open_client
from stillhouse.tracking.models import fetch_model, is_model_uri
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("student")
    ranker = RANKERS["dual_encoder"].from_backbone(str(write_model(root / "bert", "bert")), seed=2, **CAPS)
    ranker.save_pretrained(root / "student")
    return root / "student"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Callable[[Path], str]) -> str:
    return mlflow_template(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def in_the_environment(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)  # MLflow's own calls write beside the process


@pytest.fixture(scope="module")
def run(store: str, student: Path) -> str:
    """A run with the student among its artifacts, as `stillhouse run` leaves it."""
    tracker = MlflowTracker(store, "rankers")
    run_id = tracker.run("key", "a run")
    tracker.artifact(run_id, student, "student")
    tracker.end(run_id)
    return run_id


def assert_scores(uri: str, student: Path) -> None:
    assert torch.equal(load_ranker(uri).score(QUERIES, DOCS), load_ranker(student).score(QUERIES, DOCS))


def test_of_a_run(run: str, student: Path) -> None:
    assert_scores(f"runs:/{run}/student", student)
    again = RANKERS["dual_encoder"].from_pretrained(f"runs:/{run}/student")
    assert torch.equal(again.score(QUERIES, DOCS), load_ranker(student).score(QUERIES, DOCS))


def test_of_the_registry(run: str, student: Path, store: str) -> None:
    client = open_client(store)
    client.create_registered_model("my ranker")
    version = client.create_model_version("my ranker", f"runs:/{run}/student", run).version
    client.set_registered_model_alias("my ranker", "champion", version)
    assert_scores("models:/my ranker/1", student)
    assert_scores("models:/my%20ranker@champion", student)
    with pytest.raises(TrackingError, match="name a version or an alias"):
        load_ranker("models:/my ranker/Production")
    with pytest.raises(TrackingError, match=r"does not give it: .*version=7\) not found"):
        load_ranker("models:/my ranker/7")


def test_of_the_flavour_of_sentence_transformers(student: Path) -> None:
    import mlflow

    model = sentence_transformers.SentenceTransformer(str(student), device="cpu")
    with mlflow.start_run() as run:
        info = mlflow.sentence_transformers.log_model(model, name="ranker", pip_requirements=[])
    theirs = model.similarity(model.encode_query(QUERIES[:1]), model.encode_document(DOCS[0]))
    for uri in (info.model_uri, f"runs:/{run.info.run_id}/ranker"):
        torch.testing.assert_close(load_ranker(uri).score(QUERIES[:1], DOCS[:1]), theirs.float())


def test_of_a_model_as_code_whose_code_does_not_run(student: Path, tmp_path: Path) -> None:
    import mlflow

    code = tmp_path / "model.py"
    code.write_text(
        "import mlflow\nclass Model(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input):\n        return []\nmlflow.models.set_model(Model())\n"
    )
    for artifacts in ({"ranker": str(student)}, {}):
        with mlflow.start_run():
            info = mlflow.pyfunc.log_model(
                name="ranker", python_model=str(code), artifacts=artifacts, pip_requirements=[]
            )
        location = open_client(os.environ["MLFLOW_TRACKING_URI"]).get_logged_model(info.model_id).artifact_location
        Path(location.removeprefix("file://"), "model.py").write_text("raise SystemExit")
        if artifacts:
            assert_scores(info.model_uri, student)
        else:
            with pytest.raises(TrackingError, match="flavour python_function with 0 rankers inside"):
                load_ranker(info.model_uri)


def test_what_is_no_ranker(run: str, store: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "MLmodel").write_text("flavors: {python_function: {artifacts: {a: {path: ../student}}}}")
    MlflowTracker(store, "rankers").artifact(run, tmp_path / "notes", "notes")
    with pytest.raises(TrackingError, match="0 rankers inside"):
        load_ranker(f"runs:/{run}/notes")
    for uri, said in [
        (f"runs:/{run}", "no ranker there"),
        (f"runs:/{run}/nothing", "no such folder of artifacts"),
        ("runs:/0123456789abcdef0123456789abcdef/student", "not found"),
    ]:
        with pytest.raises(TrackingError, match=said) as caught:
            load_ranker(uri)
        assert "\n" not in str(caught.value)
    with pytest.raises(TrackingError, match="no MLflow store at"):
        fetch_model("models:/a/1", f"sqlite:///{tmp_path}/none.db")


@pytest.mark.parametrize("name", ["models/mine", "owner/name@v1", "runs/demo/student", "/models:/x"])
def test_these_are_no_uris(name: str) -> None:
    assert not is_model_uri(name)


@pytest.fixture
def artifact_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's own server application, serving artifacts over HTTP from a folder."""
    from werkzeug.serving import make_server

    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{tmp_path}/unused.db")
    monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(tmp_path / "artifacts"))
    from mlflow.server import app

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_from_another_machine_only_data_is_copied(student: Path, tmp_path: Path, artifact_server: str) -> None:
    shutil.copytree(student, tmp_path / "artifacts" / "kept" / "student")
    for name in ("modeling.py", "model.pkl", "pytorch_model.bin"):
        (tmp_path / "artifacts" / "kept" / "student" / name).write_bytes(b"never read")
    folder = fetch_model("mlflow-artifacts:/kept/student", artifact_server)
    assert torch.equal(load_ranker(folder).score(QUERIES, DOCS), load_ranker(student).score(QUERIES, DOCS))
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(student) for path in student.rglob("*") if path.is_file()}
    with pytest.raises(TrackingError, match="no ranker there"):
        fetch_model("mlflow-artifacts:/nothing", artifact_server)
