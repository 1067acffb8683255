"""Students of fewer layers: the first ones, chosen ones, and the small BERTs by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import BackboneError, RecipeError
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.backbones import SMALL_BERTS, resolve
from stillhouse.scores.identity import identity_of
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in ("bert", "albert", "modernbert", "qwen2")}


@pytest.fixture(scope="module")
def teacher(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved ranker of another architecture, its weights moved as training would move them."""
    path = tmp_path_factory.mktemp("teacher") / "ranker"
    ranker = RANKERS["cross_encoder"].from_backbone(str(folders["bert"]), pooling="pooler", **CAPS)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.mul_(1.5)
    ranker.save_pretrained(path)
    return path


def test_a_student_takes_chosen_layers_of_its_teacher(teacher: Path, tmp_path: Path) -> None:
    student = RANKERS["dual_encoder"].from_backbone(str(teacher), layers=[0, 2], **CAPS)
    assert student.backbone.config.num_hidden_layers == len(student.blocks()) == 2
    whole = load_ranker(teacher).backbone.base_model.eval()
    ids = torch.tensor([[2, *student.tokenise(["silver forest bridge"])[0], 3]])
    with torch.inference_mode():
        # The teacher's embeddings, first and last layer, run by hand.
        hidden = whole.embeddings(ids)
        for layer in (0, 2):
            output = whole.encoder.layer[layer](hidden)
            hidden = output[0] if isinstance(output, tuple) else output
        found = student.backbone.eval()(ids).last_hidden_state
    torch.testing.assert_close(found, hidden)
    student.save_pretrained(tmp_path / "student")
    again = load_ranker(tmp_path / "student")
    assert again.spec == student.spec
    assert torch.equal(again.score(QUERIES, DOCS), student.score(QUERIES, DOCS))


def test_first_layers_by_number_and_by_choice_are_one(folders: dict[str, Path]) -> None:
    for key, kind in (("colbert", "modernbert"), ("causal_lm", "qwen2")):
        scores = [
            RANKERS[key].from_backbone(str(folders[kind]), seed=1, **CAPS, **option).score(QUERIES, DOCS)
            for option in ({"num_layers": 2}, {"layers": [0, 1]})
        ]
        assert torch.equal(*scores)


@pytest.mark.parametrize(
    ("kind", "layers", "said"),
    [
        ("bert", [0, 3], "layers has 3, but the backbone's 3 end with 2"),
        ("albert", [0, 2], "share their weights"),
        # Its first layer has no norm before attention, the others have.
        ("modernbert", [1, 2], r"layers \[1, 2\] cannot stand in each other's places"),
    ],
)
def test_layers_that_cannot_be_chosen(folders: dict[str, Path], kind: str, layers: list[int], said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        RANKERS["dual_encoder"].from_backbone(str(folders[kind]), layers=layers, **CAPS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": [2, 0]}, "must rise"),
        ({"layers": [0, 0]}, "must rise"),
        ({"layers": []}, "at least 1"),
        ({"layers": [-1]}, "greater than or equal to 0"),
        ({"layers": [0], "num_layers": 1}, "give one"),
    ],
)
def test_choices_that_say_nothing(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        RANKERS["cross_encoder"].from_backbone("minilm", **options)


def test_options_that_are_off_leave_the_keys(folders: dict[str, Path]) -> None:
    """A store's identity names an option only where it is set: stores of before it keep their key."""
    off = identity_of(RANKERS["cross_encoder"].from_backbone(str(folders["bert"]), **CAPS))
    assert not {"layers", "compile"} & off["options"].keys()
    some = identity_of(RANKERS["cross_encoder"].from_backbone(str(folders["bert"]), layers=[0], **CAPS))
    assert some["options"]["layers"] == [0]


def test_small_berts_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    assert SMALL_BERTS["small-bert-2-128"] == "google/bert_uncased_L-2_H-128_A-2"
    assert SMALL_BERTS["small-bert-6-768"] == "google/bert_uncased_L-6_H-768_A-12"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"google/bert_uncased_L-6_H-512_A-8.*cannot be had from the hub") as caught:
        resolve("small-bert-6-512")
    assert "\n" not in str(caught.value)
