"""`stillhouse export`: from a saved ranker to a folder and to the hub, as a user calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub_constants
import pytest
import torch

from stillhouse.rankers import RANKERS, load_ranker
from tests.contracts.hub_server import Hub, serve
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model

NAME = "me/my-ranker"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder with a card of its own."""
    root = tmp_path_factory.mktemp("saved")
    ranker = RANKERS["dual_encoder"].from_backbone(str(write_model(root / "bert", "bert")), seed=2, **CAPS)
    ranker.save_pretrained(root / "ranker", card="## Training\n\nOn three documents.\n\n## Measured\n\nnDCG@10 0.5")
    return root / "ranker"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback that the real client talks to, with an empty cache."""
    with serve() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "ENDPOINT", server.url)
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def test_the_folder_scores_as_the_ranker_and_keeps_its_card(
    saved: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    done = call("export", saved, "--to", "sentence-transformers", "-o", tmp_path / "out")
    assert done.status == 0, done.err
    assert torch.equal(load_ranker(tmp_path / "out").score(QUERIES, DOCS), load_ranker(saved).score(QUERIES, DOCS))
    assert (tmp_path / "out" / "README.md").read_text() == (saved / "README.md").read_text()


def test_pushed_and_opened_again_by_name(saved: Path, tmp_path: Path, hub: Hub, call: Callable[..., Any]) -> None:
    arguments = ("--to", "sentence-transformers", "-o", tmp_path / "out", "--push", NAME, "--private")
    done = call("export", saved, *arguments)
    assert done.status == 0, done.err
    assert f"{hub.url}/{NAME}" in done.out
    assert hub.token not in done.out + done.err
    assert hub.created[0]["visibility"] == "private"
    exported = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert hub.files[NAME].keys() == exported
    assert f'load_ranker("{NAME}")' in hub.files[NAME]["README.md"].decode()
    # What is no data stays on the hub.
    hub.files[NAME] |= {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"}
    expected = load_ranker(saved).score(QUERIES, DOCS)
    for name in (NAME, f"{NAME}@v1"):
        assert torch.equal(load_ranker(name).score(QUERIES, DOCS), expected)
    assert torch.equal(RANKERS["dual_encoder"].from_pretrained(NAME).score(QUERIES, DOCS), expected)
    cached = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert "ranker.json" in cached
    assert not {"modeling.py", "pytorch_model.bin"} & cached
    missing = call("export", f"{NAME}@no-such-branch", "--to", "onnx", "-o", tmp_path / "other")
    assert missing.status == 1
    assert "cannot be had from the hub" in missing.err


def test_a_refused_push_says_where_the_folder_lies(
    saved: Path, tmp_path: Path, hub: Hub, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_wrong_one")
    arguments = ("--to", "sentence-transformers", "--push", NAME, "-o")
    refused = call("export", saved, *arguments, tmp_path / "out")
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    unreachable = call("export", saved, *arguments, tmp_path / "again")
    for done, folder in ((refused, "out"), (unreachable, "again")):
        assert done.status == 1
        assert f"the exported folder lies in {tmp_path / folder}" in done.err
        assert done.err.count("\n") == 1
        assert "hf_a_wrong_one" not in done.out + done.err
        assert (tmp_path / folder / "ranker.json").is_file()
    assert hub.files == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "gguf", "-o", "OUT"), "'gguf' is not one of sentence-transformers, pylate, onnx"),
        (("--to", "pylate", "-o", "OUT"), "pylate holds late-interaction rankers, not dual_encoder"),
        (("--to", "onnx", "-o", "SAVED"), "is there already"),
        (("--to", "onnx", "-o", "OUT", "--private"), "give --push"),
        (("--to", "onnx", "-o", "OUT", "--push", "no name"), "'no name' is no hub name"),
    ],
)
def test_what_cannot_be_is_one_line(
    saved: Path, tmp_path: Path, call: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    places = {"OUT": str(tmp_path / "out"), "SAVED": str(saved)}
    done = call("export", saved, *(places.get(word, word) for word in arguments))
    assert done.status == 1
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_ranker_that_is_not_there(tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    for name, said in [
        ("no/such", "cannot be had from the hub"),
        ("/no/such", "no such folder"),
        ("runs:/0/student", "no MLflow store at"),
    ]:
        done = call("export", name, "--to", "onnx", "-o", tmp_path / "out")
        assert done.status == 1
        assert re.search(said, done.err)
        assert done.err.count("\n") == 1
