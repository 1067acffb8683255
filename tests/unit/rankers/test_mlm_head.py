"""The masked-language-model head: the library's logits with the checkpoint's weights, and nothing left behind."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stillhouse.errors import BackboneError
from stillhouse.rankers import RANKERS, mlm_head
from stillhouse.rankers.batching import Tokens
from stillhouse.recipe.losses import MLM_RANKERS
from tests.contracts.tiny_models import write_model

CAPS = {"query_max_length": 8, "doc_max_length": 40}


def write_masked_lm(folder: Path, kind: str) -> Path:
    """A tiny model with the head it is pretrained with, its bias and norm drawn too."""
    write_model(folder, kind)
    (folder / "model.safetensors").unlink()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModelForMaskedLM.from_config(transformers.AutoConfig.from_pretrained(folder))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_logits_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    folder = write_masked_lm(tmp_path / kind, kind)
    ranker = RANKERS["dual_encoder"].from_backbone(str(folder), **CAPS).eval()
    assert mlm_head.attach(ranker, seed=0)
    tokens: Tokens = ranker.pad([ranker.row(ids, "doc") for ids in ranker.tokenise(["river stone needle", "silver"])])
    at_PL = tokens.mask_PL.bool()
    with torch.no_grad():
        found_MV = ranker.mask_logits(tokens, at_PL, "doc")
        library = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
        expected_PLV = library(input_ids=tokens.ids_PL, attention_mask=tokens.mask_PL).logits
    torch.testing.assert_close(found_MV, expected_PLV[at_PL], rtol=1e-4, atol=1e-4)
    assert not [name for name in ranker.fresh_parameters() if name.startswith("mlm_head")]


def test_old_checkpoints_say_gamma_and_beta(tmp_path: Path) -> None:
    folder = write_masked_lm(tmp_path / "bert", "bert")
    tensors = load_file(folder / "model.safetensors")
    norm = "cls.predictions.transform.LayerNorm"
    tensors[f"{norm}.gamma"], tensors[f"{norm}.beta"] = tensors.pop(f"{norm}.weight"), tensors.pop(f"{norm}.bias")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    ranker = RANKERS["cross_encoder"].from_backbone(str(folder), **CAPS)
    assert mlm_head.attach(ranker, seed=0)
    assert torch.equal(ranker.mlm_head.norm.weight, tensors[f"{norm}.gamma"])


def test_a_checkpoint_without_a_head_gets_a_fresh_one_and_says_so(
    backbone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ranker = RANKERS["colbert"].from_backbone(str(backbone), **CAPS)
    with caplog.at_level(logging.WARNING):
        assert not mlm_head.attach(ranker, seed=3)
    assert "has no masked-language-model head; a fresh one learns" in caplog.text
    again = RANKERS["colbert"].from_backbone(str(backbone), **CAPS)
    mlm_head.attach(again, seed=3)
    assert torch.equal(ranker.mlm_head.dense.weight, again.mlm_head.dense.weight)
    assert {name for name in ranker.fresh_parameters() if name.startswith("mlm_head")} == {
        f"mlm_head.{part}" for part in ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias")
    }


@pytest.mark.parametrize("key", MLM_RANKERS)
def test_scores_and_saved_folder_are_as_without_it(backbone: Path, tmp_path: Path, key: str) -> None:
    options = {"num_separate_layers": 1} if key == "prettr" else {}
    ranker = RANKERS[key].from_backbone(str(backbone), **CAPS, **options)
    digest, fresh = ranker.weight_digest(), ranker.fresh_parameters()
    before = ranker.score(["river stone"], [["garden", "river letter"]])
    mlm_head.attach(ranker, seed=0)
    assert torch.equal(ranker.score(["river stone"], [["garden", "river letter"]]), before)
    ranker.detach_head(mlm_head.HEAD)
    assert (ranker.weight_digest(), ranker.fresh_parameters()) == (digest, fresh)
    ranker.save_pretrained(tmp_path / "saved")
    assert RANKERS[key].from_pretrained(tmp_path / "saved").weight_digest() == digest


@pytest.mark.parametrize(("key", "kind"), [("tk", "bert"), ("causal_lm", "qwen2")])
def test_rankers_that_read_no_masked_tokens_say_so(tmp_path: Path, key: str, kind: str) -> None:
    ranker = RANKERS[key].from_backbone(str(write_model(tmp_path / kind, kind)), **CAPS)
    with pytest.raises(BackboneError, match=f"loss mlm: {key} on .* take it out of extra_losses"):
        mlm_head.attach(ranker, seed=0)
