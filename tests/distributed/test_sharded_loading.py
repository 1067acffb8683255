"""A student that FSDP2 shards is read row by row: bit for bit the student that is read whole, and never held whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.contracts.tiny_models import write_model
from tests.distributed.launch import run_ranks
from tests.distributed.load_parts import CASES, CONVERTED


def write_checkpoints(root: Path) -> None:
    """Every folder that load_parts.py reads."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, MixtralConfig

    kinds = ("bert", "roberta", "albert", "modernbert", "distilbert", "electra", "qwen2", "mamba", "mamba2")
    for kind in (*kinds, "recurrent_gemma"):
        write_model(root / kind, kind)
    tokenizer = AutoTokenizer.from_pretrained(root / "qwen2")
    language_model = AutoModelForCausalLM.from_pretrained(root / "qwen2")
    torch.manual_seed(4)
    head = AutoModelForSequenceClassification.from_pretrained(root / "roberta", num_labels=1)
    tied = type(language_model)(
        type(language_model.config)(**language_model.config.to_dict() | {"tie_word_embeddings": True})
    )
    sizes = {name: getattr(language_model.config, name) for name in ("vocab_size", "num_hidden_layers", "pad_token_id")}
    heads = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    experts = MixtralConfig(**sizes, **heads, num_local_experts=2, max_position_embeddings=160, eos_token_id=2)
    wide = type(language_model.config)(
        **sizes | {"num_hidden_layers": 6}, hidden_size=128, intermediate_size=256, max_position_embeddings=160
    )
    language_model.save_pretrained(root / "several_files", max_shard_size="40KB")
    AutoModelForCausalLM.from_config(wide).save_pretrained(root / "wide", max_shard_size="1MB")
    tied.save_pretrained(root / "tied_embeddings")
    AutoModelForCausalLM.from_config(experts).save_pretrained(root / "converted")
    language_model.to(torch.bfloat16).save_pretrained(root / "bfloat16")
    for name in ("several_files", "wide", "tied_embeddings", "converted", "bfloat16"):
        tokenizer.save_pretrained(root / name)
    head.save_pretrained(root / "with_head")
    AutoTokenizer.from_pretrained(root / "roberta").save_pretrained(root / "with_head")
    write_model(root / "old_names", "bert")
    weights = load_file(root / "old_names" / "model.safetensors")
    # As the first BERT checkpoints on the hub have it: under the model's prefix, norms with gamma and beta.
    old = {
        f"bert.{name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')}": value
        for name, value in weights.items()
    }
    save_file(old, root / "old_names" / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    root = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(root)
    return [json.loads(output.strip().splitlines()[-1]) for output in run_ranks("load_parts.py", root)]


@pytest.mark.parametrize("case", CASES)
def test_read_row_by_row_is_read_whole(found: list[dict[str, Any]], case: str) -> None:
    for rank in found:
        assert [name for name, same in rank[case].items() if not same] == []


def test_a_checkpoint_that_must_be_converted_is_read_whole(found: list[dict[str, Any]]) -> None:
    for rank in found:
        assert [name for name, same in rank[next(iter(CONVERTED))].items() if not same] == ["row by row"]


def test_no_rank_ever_holds_the_whole_state(found: list[dict[str, Any]]) -> None:
    kept = 0
    for rank in found:
        sizes = rank["bytes"]
        assert sizes["whole"] >= sizes["all"] > 3_000_000
        # Its own half, and one weight on the way: its rows as read, and an empty one as large that loses its place.
        assert sizes["parts"] <= sizes["kept"] + 2 * sizes["largest"]
        assert sizes["parts"] < 0.8 * sizes["all"]
        kept += sizes["kept"]
    assert kept == found[0]["bytes"]["all"]
