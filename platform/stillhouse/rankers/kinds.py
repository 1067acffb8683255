"""Which backbones an architecture can read: both ways, from left to right, or with a recurrent state."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from stillhouse.errors import BackboneError

RECURRENT = ("falcon_mamba", "mamba", "mamba2", "recurrent_gemma", "rwkv", "xlstm")
"""model_type of language models whose layers carry a state instead of attending to the whole past."""

HYBRID = (
    *("bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_next"),
    *("zamba", "zamba2"),
)
"""Those that mix such layers with attention: either ranker of language models runs them."""

# transformers lists these as causal only, but both are made to read both ways.
_BOTH_WAYS = ("bert-generation", "xlnet")


def left_to_right(config: Any) -> bool:
    """Whether a token's state depends on the tokens before it alone.

    BERT and its kin are language models too for transformers: with `is_decoder`, which hides what follows.
    """
    if getattr(config, "is_decoder", None) and not getattr(config, "is_encoder_decoder", False):
        return True
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return causal and kind not in _BOTH_WAYS and not getattr(config, "use_bidirectional_attention", None)


def check_encoder(spec: Any, config: Any) -> None:
    """Raise BackboneError where `pooling: cls` would read a first token that has seen nothing else."""
    if getattr(spec, "pooling", None) == "cls" and left_to_right(config):
        raise BackboneError(
            f"{spec.backbone}: {config.model_type} reads from left to right, so that its first token, which "
            f"pooling: cls reads, knows no other; use ranker: {_ranker_for(config)}, or pooling: mean"
        )


def check_language_model(spec: Any, config: Any) -> None:
    """Raise BackboneError unless the backbone is a language model of the ranker's own kind."""
    kind = config.model_type
    if not left_to_right(config):
        raise BackboneError(
            f"{spec.backbone}: {kind} is no language model that reads from left to right, as {spec.ranker} needs; "
            "use ranker: cross_encoder"
        )
    other = kind in RECURRENT if spec.ranker == "causal_lm" else kind not in (*RECURRENT, *HYBRID)
    if other:
        needs = "attends to all tokens before" if spec.ranker == "causal_lm" else "has recurrent layers"
        raise BackboneError(
            f"{spec.backbone}: ranker {spec.ranker} needs a language model that {needs}, not {kind}; "
            f"use ranker: {_ranker_for(config)}"
        )


def _ranker_for(config: Any) -> str:
    return "recurrent" if config.model_type in RECURRENT else "causal_lm"
