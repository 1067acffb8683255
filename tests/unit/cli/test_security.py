"""Secrets stay where they are, and nothing that comes from outside is run: planted ones are looked for everywhere."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stillhouse import cluster
from stillhouse.errors import BackboneError, RecipeError
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.recipe import find_file, load_recipe
from tests.contracts.completion_server import serving
from tests.contracts.ranker_contract import CAPS
from tests.contracts.tiny_llms import write_llm
from tests.contracts.tiny_models import write_model

SECRET = "planted-5ecret-8f3a"
VARIABLES = (
    "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RAY_AUTH_TOKEN",
    "STILLHOUSE_TEST_KEY",
    "PGPASSWORD",
    "SOMETHING_ELSE",
)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with secrets in its environment and in the files where people keep them."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    for name in (".env", ".netrc", "id_ed25519", "auth_token"):
        Path(name).write_text(f"TOKEN={SECRET}\n")
    return folder


def holding(folder: Path) -> set[str]:
    """The files below a folder that hold the secret, as text or compressed by nobody."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    }


def test_a_run_leaves_no_secret_behind(
    planted: Path,
    collection_folder: Path,
    backbone: Path,
    tmp_path: Path,
    mlflow_template: Callable[[Path], str],
    call: Callable[..., Any],
) -> None:
    sizes = {"backbone": str(backbone), "query_max_length": 8, "doc_max_length": 24}
    with serving(write_llm(tmp_path / "llm", "qwen3"), key=SECRET) as server:
        teacher = {"endpoint": server.url, "model": "tiny", "template": "qwen3-reranker-0.6b", "top_logprobs": 1000}
        recipe = {
            "name": "toy",
            "output": {"path": "out"},
            "collection": dict.fromkeys(("train", "dev", "test"), str(collection_folder))
            | {"max_train_queries": 4, "max_dev_queries": 2, "max_test_queries": 2},
            "candidates": {"depth": 3},
            "teachers": {"there": teacher | {"key_env": "STILLHOUSE_TEST_KEY"}},
            "store": {"path": "scores", "actors": 0, "partitions": 1},
            "student": {"ranker": "dual_encoder", **sizes},
            "stages": {"distill": {"loss": {"name": "kl"}, "groups": {"num_negatives": 2}, "evaluations": 1}},
            "scale": {"dtype": "float32"},
            "retrain": {"num_workers": 1},
            "tracking": {"uri": mlflow_template(planted), "experiment": "toy"},
        }
        Path("toy.yaml").write_text(yaml.safe_dump(recipe))
        done = call("run", "toy.yaml")
        assert done.status == 0, done.err
        asked = len(server.requests)
    assert asked, "the teacher was asked, with the key"
    assert (planted / "out" / "record.json").is_file()
    assert list(planted.rglob("environment.json")), "MLflow has the run's artifacts"
    assert SECRET not in done.out + done.err
    assert holding(planted) == {".env", ".netrc", "id_ed25519", "auth_token"}


@pytest.mark.parametrize(
    ("key", "uri"),
    [
        ("tracking.uri", f"http://me:{SECRET}@record.example.org"),
        ("tracking.uri", f"postgresql://me:{SECRET}@record.example.org/mlflow"),
        ("store.path", f"s3://me:{SECRET}@bucket/scores"),
    ],
)
def test_a_password_in_a_recipe_is_refused_before_it_goes_anywhere(
    key: str, uri: str, planted: Path, call: Callable[..., Any]
) -> None:
    with pytest.raises(RecipeError, match=f"{key}: the address holds a login, which every record would show; "):
        load_recipe("demo", [f"{key}={uri}"])
    for command in (["run", "demo"], ["job", "submit", "run", "demo", "--address", NOWHERE]):
        done = call(*command, "--set", f"{key}={uri}")
        assert done.status == 1
        assert SECRET not in done.out + done.err
    # A name alone is no secret, and a database wants one.
    if not uri.startswith("http"):
        load_recipe("demo", [f"{key}={uri.replace(f':{SECRET}', '')}"])


def test_a_job_takes_no_secret_along(planted: Path) -> None:
    Path("mine.yaml").write_text(find_file("demo", "jobs/recipes").read_text())
    with cluster.packed("mine.yaml", ["seed=1"]) as (files, package, arguments):
        assert not holding(files) | holding(package)
        assert not [word for word in arguments if SECRET in word]
        assert {path.name for path in files.iterdir()} == {"mine.yaml", "demo.yaml"}, "the recipe and its space"


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.made,)


PICKLES = ("pytorch_model.bin", "model.pt", "model.pkl", "training_args.bin", "optimizer.pt", "rng_state.pth")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """What exists once a pickle was read; the pickles do work."""
    made = tmp_path / "made"
    pickle.loads(pickle.dumps(Malicious(made)))
    assert made.exists()
    made.unlink()
    return made


def test_pickles_in_a_model_folder_are_neither_read_nor_taken_for_weights(tmp_path: Path, trap: Path) -> None:
    folder = write_model(tmp_path / "bert", "bert")
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Malicious(trap)))
    ranker = RANKERS["dual_encoder"].from_backbone(str(folder), **CAPS)
    saved = tmp_path / "saved"
    ranker.save_pretrained(saved)
    for name in PICKLES:
        shutil.copy(folder / name, saved)
    opened = load_ranker(str(saved))
    for name, weights in ranker.state_dict().items():
        assert torch.equal(opened.state_dict()[name], weights)
    assert not trap.exists()
    # Without safetensors it is refused: the tensors of a pickle are not read even where they are right.
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"no \*\.safetensors") as caught:
        RANKERS["dual_encoder"].from_backbone(str(folder), **CAPS)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("kind", ["recipe", "space", "override"])
def test_yaml_runs_nothing(kind: str, tmp_path: Path, call: Callable[..., Any]) -> None:
    made = tmp_path / "made"
    evil = f"!!python/object/apply:os.system ['touch {made}']"
    (tmp_path / "evil.yaml").write_text(f"name: {evil}\n")
    command = {
        "recipe": ["run", tmp_path / "evil.yaml"],
        "space": ["plan", "demo", "--set", f"search.space={tmp_path / 'evil.yaml'}"],
        "override": ["plan", "demo", "--set", f"name={evil}"],
    }[kind]
    done = call(*command)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "could not determine a constructor for the tag" in done.err
    assert not made.exists()
