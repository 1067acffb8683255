"""One call of a Hugging Face encoder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel

from stillhouse.rankers import bert_layers
from stillhouse.rankers.backbones import load_model, read_config
from stillhouse.rankers.batching import Tokens
from stillhouse.rankers.kinds import check_encoder


def load_encoder(spec: Any, folder: Path) -> Any:
    """The bare encoder of a folder, with the layers and dropout that the spec asks for."""
    config = read_config(folder, num_layers=spec.num_layers, dropout=spec.dropout)
    check_encoder(spec, config)
    return load_model(AutoModel, folder, config, layers=spec.layers)[0]


def reads_types(model: Any, tokenizer: Any) -> bool:
    """Whether the tokenizer gives segments (token_type_ids) and the model has embeddings for them."""
    given = "token_type_ids" in tokenizer.model_input_names
    known = getattr(model.config, "type_vocab_size", 0) > 1
    return given and known and "token_type_ids" in inspect.signature(model.forward).parameters


def encode(model: Any, tokens: Tokens, *, types: bool) -> Any:
    """The model's output for padded rows; `types` passes the segments too."""
    arguments = {"input_ids": tokens.ids_PL, "attention_mask": tokens.mask_PL}
    if types:
        arguments["token_type_ids"] = tokens.types_PL
    return model(**arguments)


def states(model: Any, tokens: Tokens, *, types: bool, attention: str, first_only: bool = False) -> Tensor:
    """The encoder's last states [P, L, D]; with `first_only` perhaps no more than [P, 1, D], the first token's.

    `attention` is the recipe's: `auto` takes the layers written out for a CPU where they cover the model.
    """
    if attention == "auto" and bert_layers.covers(model):
        return bert_layers.states(model, tokens, types=types, first_only=first_only)
    hidden_PLD: Tensor = encode(model, tokens, types=types).last_hidden_state
    return hidden_PLD
