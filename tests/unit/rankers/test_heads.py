"""A checkpoint whose head is missing is an error, whatever the architecture; code beside weights never runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

from stillhouse.errors import BackboneError
from stillhouse.rankers import RANKERS, load_ranker
from tests.contracts.ranker_contract import CAPS
from tests.contracts.tiny_models import write_model

JOINT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cross_encoder cls": ("cross_encoder", "bert", {"pooling": "cls"}),
    "cross_encoder mean": ("cross_encoder", "bert", {"pooling": "mean"}),
    "cross_encoder pooler": ("cross_encoder", "bert", {"pooling": "pooler"}),
    "prettr": ("prettr", "bert", {"num_separate_layers": 1}),
    "causal_lm linear": ("causal_lm", "qwen2", {}),
    "causal_lm yes_no": ("causal_lm", "qwen2", {"head": "yes_no"}),
    "recurrent linear": ("recurrent", "mamba", {}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in ("bert", "qwen2", "mamba")}


@pytest.fixture(scope="module")
def masked(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a head for masked tokens and none for scores."""
    folder = tmp_path_factory.mktemp("masked")
    transformers.AutoModelForMaskedLM.from_pretrained(folders["bert"]).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", JOINT)
def test_a_saved_ranker_without_its_head(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    key, kind, options = JOINT[name]
    RANKERS[key].from_backbone(str(folders[kind]), **CAPS, **options).save_pretrained(tmp_path / "r")
    in_backbone = name in ("cross_encoder pooler", "causal_lm yes_no")
    path = tmp_path / "r" / ("model.safetensors" if in_backbone else "ranker.safetensors")
    tensors = load_file(path)
    heads = {one for one in tensors if one.startswith(("head.", "classifier.", "lm_head.", "model.embed_tokens"))}
    assert heads
    save_file({one: tensor.clone() for one, tensor in tensors.items() if one not in heads}, path, {"format": "pt"})
    for open_it in (load_ranker, RANKERS[key].from_pretrained):
        with pytest.raises(BackboneError, match="missing"):
            open_it(tmp_path / "r")
    path.unlink()
    with pytest.raises(BackboneError, match=r"cannot be read|no \*.safetensors"):
        load_ranker(tmp_path / "r")


@pytest.mark.parametrize("key", RANKERS)
def test_a_checkpoint_for_masked_tokens_is_no_ranker(masked: Path, key: str) -> None:
    with pytest.raises(BackboneError, match=r"no ranker.json"):
        RANKERS[key].from_pretrained(masked)
    with pytest.raises(BackboneError, match="from_backbone"):
        load_ranker(masked)


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_its_weights_in_the_place_of_a_rankers(
    folders: dict[str, Path], masked: Path, tmp_path: Path, pooling: str
) -> None:
    """As when someone goes on training the backbone of a saved ranker and copies the weights back."""
    RANKERS["cross_encoder"].from_backbone(str(folders["bert"]), pooling=pooling, **CAPS).save_pretrained(tmp_path)
    before = load_file(tmp_path / "model.safetensors")
    # Put in place instead of written over: the tensors of before are views of the old file.
    shutil.copy(masked / "model.safetensors", tmp_path / "other")
    (tmp_path / "other").replace(tmp_path / "model.safetensors")
    if pooling == "pooler":
        with pytest.raises(BackboneError, match=r"missing.*bert.pooler|missing.*classifier"):
            load_ranker(tmp_path)
    else:
        # The head of `cls` lies apart and this encoder is whole: the same weights under other names.
        encoder = load_ranker(tmp_path).backbone.state_dict()
        assert all((encoder[name] == tensor).all() for name, tensor in before.items() if "pooler" not in name)


def test_code_beside_the_weights_never_runs(folders: dict[str, Path], tmp_path: Path) -> None:
    RANKERS["cross_encoder"].from_backbone(str(folders["bert"]), **CAPS).save_pretrained(tmp_path)
    marker = tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    auto_map = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model", "AutoTokenizer": "modeling.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    load_ranker(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": auto_map, "model_type": "of-my-own"}))
    with pytest.raises(BackboneError, match=r"config.json cannot be used") as caught:
        load_ranker(tmp_path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
