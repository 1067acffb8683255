"""The layers of BERT-like encoders written out for a CPU: cheaper attention, and the last layer for one token alone.

A score that reads the first token only needs of the last layer nothing but that token's row: the other rows' queries,
outputs and feed-forward are left out. That is exact, and so is everything else here up to the order of sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.rankers import packed_layers
from stillhouse.rankers.attention import HiddenKeys, attend, hidden_keys, join_heads, split_heads
from stillhouse.rankers.backbones import layers_of
from stillhouse.rankers.batching import Tokens
from stillhouse.rankers.dense import dense
from stillhouse.rankers.dropout import dropout

KINDS = ("BertLayer", "CamembertLayer", "ElectraLayer", "RobertaLayer", "XLMRobertaLayer")
"""Layers of one design (`attention.self`, `attention.output`, `intermediate`, `output`), by the name of their class."""


def covers(model: Any) -> bool:
    """Whether `states` can stand for the model's own forward.

    Not where something else goes along with a layer's call: FSDP2 (it changes the class), compilation, checkpointing,
    hooks, an export; and not off the CPU, where the library's kernels are the faster ones.
    """
    if model.device.type != "cpu" or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return False
    if getattr(model.config, "is_decoder", False) or not hasattr(model, "embeddings"):
        return False
    return all(_is_plain(layer) for layer in layers_of(model))


def _is_plain(layer: Any) -> bool:
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._compiled_call_impl is not None
    return type(layer).__name__ in KINDS and not hooked and not getattr(layer, "gradient_checkpointing", False)


def states(model: Any, tokens: Tokens, *, types: bool, first_only: bool = False) -> Tensor:
    """The encoder's last states [P, L, D]; with `first_only` those of the first token, [P, 1, D]."""
    arguments = {"token_type_ids": tokens.types_PL} if types else {}
    hidden_PLD: Tensor = model.embeddings(tokens.ids_PL, **arguments)
    projected = getattr(model, "embeddings_project", None)
    if projected is not None:
        hidden_PLD = projected(hidden_PLD)
    hidden = hidden_keys(tokens.mask_PL)
    layers = layers_of(model)
    if not torch.is_grad_enabled() and not model.training:
        packed = packed_layers.of(model, layers)
        if packed is not None:
            return packed_layers.run(packed, hidden_PLD, hidden, first_only=first_only)
    for layer in layers[:-1]:
        hidden_PLD = _run(layer, hidden_PLD, hidden)
    output_PMD = _run(layers[-1], hidden_PLD, hidden, first_only=first_only)
    packed_layers.forget_on_backward(model, output_PMD)
    return output_PMD


def _run(layer: Any, hidden_PLD: Tensor, hidden: HiddenKeys | None, *, first_only: bool = False) -> Tensor:
    """One layer, [P, L, D], or [P, 1, D] for the first token alone, which reads all of them."""
    own: Any = layer.attention.self
    heads = own.num_attention_heads
    rows_PMD = hidden_PLD[:, :1] if first_only else hidden_PLD
    # Cast once: autocast would do it for each of the three products, and again on the way back.
    read_PLD = hidden_PLD.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else hidden_PLD
    context = attend(
        split_heads(dense(own.query, read_PLD[:, :1] if first_only else read_PLD), heads),
        split_heads(dense(own.key, read_PLD), heads),
        split_heads(dense(own.value, read_PLD), heads),
        hidden,
        dropout=own.dropout.p if layer.training else 0.0,
    )
    attended_PMD = _added(layer.attention.output, join_heads(context, len(hidden_PLD)), rows_PMD)
    wide = layer.intermediate.intermediate_act_fn(dense(layer.intermediate.dense, attended_PMD))
    return _added(layer.output, wide, attended_PMD)


def _added(output: Any, x: Tensor, residual: Tensor) -> Tensor:
    """What the two output modules of a layer do: dense, dropout, residual, norm."""
    dropped = dropout(dense(output.dense, x), output.dropout.p if output.training else 0.0)
    added: Tensor = output.LayerNorm(dropped + residual)
    return added


def head_logits(model: Any, hidden_P1D: Tensor) -> Tensor:
    """What a classification model's own head makes of the first token's states, [P, labels]."""
    pooler: nn.Module | None = getattr(model.base_model, "pooler", None)
    if pooler is not None:
        hidden_P1D = model.dropout(pooler(hidden_P1D))
    logits_PN: Tensor = model.classifier(hidden_P1D)
    return logits_PN
