"""LoRA on every architecture with a pretrained backbone: what trains, what is saved, and that nothing else changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import BackboneError, RecipeError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.recipe.rankers import CausalLmSpec
from stillhouse.recipe.tree import OptimizerSpec
from stillhouse.training.optimizer import make_optimizer
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model

RANK = 4
# Sizes of the tiny models: width 32, feed-forward 48, 3 layers.
SQUARE, UP, DOWN = (32, 32), (32, 48), (48, 32)
CASES: dict[str, tuple[str, str, dict[str, Any], list[tuple[int, int]]]] = {
    # Architecture, backbone, options, (in, out) of the adapted layers of one block and side.
    # 4 heads of 8, 2 of them for keys and values; gate and up, then down.
    "causal_lm": ("causal_lm", "qwen2", {}, [SQUARE, (32, 16), (32, 16), SQUARE, UP, UP, DOWN]),
    "yes_no": ("causal_lm", "qwen2", {"head": "yes_no", "lora": {"rank": RANK, "target": ["q_proj"]}}, [SQUARE]),
    # Inner width 64 = 2 x 32, twice: signal and gate. The other layers are read past by Mamba's kernels.
    "recurrent": ("recurrent", "mamba", {}, [(32, 128)]),
    "own_head": ("cross_encoder", "roberta", {"pooling": "pooler"}, [SQUARE] * 4 + [UP, DOWN]),
    # ALBERT's three layers are one.
    "shared": ("cross_encoder", "albert", {}, [SQUARE] * 4 + [UP, DOWN]),
    "untied": ("dual_encoder", "bert", {"tied": False, "learn_score_scale": True}, [SQUARE] * 4 + [UP, DOWN]),
    "colbert": ("colbert", "electra", {"projection_dim": 16}, [SQUARE] * 4 + [UP, DOWN]),
    "prettr": ("prettr", "distilbert", {"num_separate_layers": 1}, [SQUARE] * 4 + [UP, DOWN]),
}
COPIES = {"shared": 1, "untied": 6}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = sorted({kind for _, kind, _, _ in CASES.values()})
    return {kind: write_model(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


def make(models: dict[str, Path], case: str, **changes: Any) -> Ranker:
    key, kind, options, _ = CASES[case]
    options = CAPS | {"lora": {"rank": RANK, "alpha": 6}} | options | changes
    return RANKERS[key].from_backbone(str(models[kind]), **options)


def adapted(models: dict[str, Path], case: str, **changes: Any) -> Ranker:
    """With adapters as a training would leave them: B is not zero any more."""
    ranker = make(models, case, **changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(ranker.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return ranker


@pytest.mark.parametrize("case", CASES)
def test_at_first_nothing_changes_and_only_adapters_and_head_train(models: dict[str, Path], case: str) -> None:
    ranker, plain = make(models, case), make(models, case, lora=None)
    expected = plain.score(QUERIES, DOCS)
    assert torch.equal(ranker.score(QUERIES, DOCS), expected)
    batch = ranker.collate(ranker.tokenise(QUERIES), [ranker.tokenise(row) for row in DOCS])
    ranker.train()(batch)[batch.mask_QK].mul(torch.tensor([1.0, -2.0, 3.0, 0.5])).sum().backward()
    heads = {id(parameter) for head in ranker.heads() for parameter in head.parameters()}
    adapters = 0
    for name, parameter in ranker.named_parameters():
        is_adapter = "lora_" in name
        assert (parameter.grad is not None) == (is_adapter or id(parameter) in heads), name
        if "lora_B" in name:
            # A's gradient is B's transpose times something: zero until B has moved.
            assert parameter.grad.any(), name
        adapters += parameter.numel() if is_adapter else 0
    assert adapters == COPIES.get(case, 3) * sum(RANK * (before + after) for before, after in CASES[case][3])
    trained = {
        id(parameter) for group in make_optimizer(ranker, OptimizerSpec()).param_groups for parameter in group["params"]
    }
    assert trained == {id(parameter) for parameter in ranker.parameters() if parameter.grad is not None}
    assert ranker.fresh_parameters() == plain.fresh_parameters()
    assert len(ranker.blocks()) == len(plain.blocks())


@pytest.mark.parametrize("case", CASES)
def test_merged_and_apart_give_the_same_scores(models: dict[str, Path], case: str, tmp_path: Path) -> None:
    ranker = adapted(models, case)
    expected, digest = ranker.score(QUERIES, DOCS), ranker.weight_digest()
    assert not torch.allclose(expected, make(models, case, lora=None).score(QUERIES, DOCS), atol=1e-4)
    ranker.save_pretrained(tmp_path / "merged")
    ranker.save_pretrained(tmp_path / "apart", merge=False)
    assert ranker.weight_digest() == digest
    assert torch.equal(ranker.score(QUERIES, DOCS), expected)
    merged = load_ranker(tmp_path / "merged")
    assert merged.spec == ranker.spec.model_copy(update={"lora": None})
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(merged.score(QUERIES, DOCS), expected, rtol=1e-5, atol=1e-5)
    assert "Trained with LoRA (rank 4" in (tmp_path / "merged" / "README.md").read_text()
    apart = load_ranker(tmp_path / "apart")
    assert apart.spec == ranker.spec
    assert apart.weight_digest() == digest
    assert torch.equal(apart.score(QUERIES, DOCS), expected)


def test_merged_weights_are_the_formula(models: dict[str, Path], tmp_path: Path) -> None:
    ranker = adapted(models, "yes_no", lora={"rank": 4, "alpha": 6, "target": ["mlp.down_proj"]})
    layer = ranker.get_submodule("backbone.model.layers.1.mlp.down_proj")
    update = (6 / 4) * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    ranker.save_pretrained(tmp_path / "merged")
    weight = load_ranker(tmp_path / "merged").get_parameter("backbone.model.layers.1.mlp.down_proj.weight")
    torch.testing.assert_close(weight, layer.base_layer.weight + update)


def test_adapters_apart_open_in_peft(models: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    ranker = adapted(models, "causal_lm")
    ranker.save_pretrained(tmp_path / "apart", merge=False)
    base = AutoModel.from_pretrained(tmp_path / "apart" / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "apart" / "adapters").eval()
    ids = torch.tensor([[5, 9, 20, 7]])
    with torch.inference_mode():
        expected = ranker.eval().backbone(input_ids=ids).last_hidden_state
        torch.testing.assert_close(theirs(input_ids=ids).last_hidden_state, expected)
        assert not torch.allclose(theirs.unload()(input_ids=ids).last_hidden_state, expected, atol=1e-3)


def test_the_seed_draws_the_adapters(models: dict[str, Path]) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again = make(models, "causal_lm"), make(models, "causal_lm")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.weight_digest() == again.weight_digest()
    key, kind, options, _ = CASES["causal_lm"]
    other = RANKERS[key].from_backbone(str(models[kind]), seed=1, **(CAPS | options | {"lora": {"rank": RANK}}))
    down = [one.get_parameter("backbone.layers.0.self_attn.q_proj.lora_A.default.weight") for one in (first, other)]
    assert not torch.equal(*down)
    # U(-1/sqrt(32), 1/sqrt(32)) has the standard deviation 1 / sqrt(3 * 32).
    drawn = torch.cat([p.flatten() for name, p in first.named_parameters() if "lora_A" in name and p.shape[1] == 32])
    assert drawn.std().item() == pytest.approx((3 * 32) ** -0.5, rel=0.05)
    assert drawn.abs().max() <= 32**-0.5


def test_dropout_only_while_training(models: dict[str, Path]) -> None:
    ranker = adapted(models, "causal_lm", lora={"rank": RANK, "dropout": 0.5})
    batch = ranker.collate(ranker.tokenise(QUERIES), [ranker.tokenise(row) for row in DOCS])
    first, second = (ranker.train()(batch)[batch.mask_QK] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(ranker.score(QUERIES, DOCS), ranker.score(QUERIES, DOCS))


def test_gradient_checkpointing_changes_nothing(models: dict[str, Path]) -> None:
    gradients = []
    for on in (False, True):
        ranker = adapted(models, "causal_lm", gradient_checkpointing=on).train()
        batch = ranker.collate(ranker.tokenise(QUERIES), [ranker.tokenise(row) for row in DOCS])
        ranker(batch)[batch.mask_QK].square().sum().backward()
        gradients.append({name: p.grad for name, p in ranker.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_missing_adapter_is_an_error(models: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make(models, "causal_lm").save_pretrained(tmp_path / "apart", merge=False)
    path = tmp_path / "apart" / "adapters" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(min(tensors))
    save_file(tensors, path)
    with pytest.raises(BackboneError, match=r"its 41 tensors are not those of the ranker's 42 adapters"):
        load_ranker(tmp_path / "apart")
    path.unlink()
    with pytest.raises(BackboneError, match="adapters cannot be read"):
        load_ranker(tmp_path / "apart")


def test_mistakes_are_one_line(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match=r"no linear layer 'query' to adapt; it has \['down_proj', 'gate_proj'"):
        make(models, "causal_lm", lora={"target": ["query"]})
    with pytest.raises(BackboneError, match=r"no linear layer 'x_proj' to adapt; it has \['in_proj'\]"):
        make(models, "recurrent", lora={"target": ["x_proj"]})
    with pytest.raises(RecipeError, match=r"causal_lm: lora\.target.* found \[\]"):
        make(models, "causal_lm", lora={"target": []})
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BackboneError, match=r"peft is not installed: pip install 'stillhouse\[lora\]'"):
        make(models, "causal_lm")


def test_a_spec_without_lora_says_nothing_of_it() -> None:
    said = {"ranker": "causal_lm", "backbone": "b"}
    assert "lora" not in CausalLmSpec.model_validate(said).model_dump()
    spec = CausalLmSpec.model_validate(said | {"lora": {"target": ["q_proj"]}})
    assert spec.model_dump(mode="json")["lora"] == {"rank": 16, "alpha": 32.0, "dropout": 0.0, "target": ["q_proj"]}
    assert CausalLmSpec.model_validate(spec.model_dump(mode="json")) == spec
