"""The masked-language-model head of BERT-like encoders: it stands on a ranker while it trains, and is never saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear
from transformers.activations import ACT2FN

from stillhouse.errors import BackboneError
from stillhouse.rankers.backbones import resolve
from stillhouse.rankers.heads import init_fresh
from stillhouse.recipe.losses import MLM_RANKERS

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

HEAD = "mlm_head"
"""Attribute of a ranker: its parameters are `mlm_head.*`."""

# What each family calls the parts in its checkpoints, and which activation stands between them.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "bert": {
        "dense": ("cls.predictions.transform.dense",),
        "norm": ("cls.predictions.transform.LayerNorm",),
        "bias": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    },
    "roberta": {
        "dense": ("lm_head.dense",),
        "norm": ("lm_head.layer_norm",),
        "bias": ("lm_head.bias", "lm_head.decoder.bias"),
    },
    "distilbert": {"dense": ("vocab_transform",), "norm": ("vocab_layer_norm",), "bias": ("vocab_projector.bias",)},
    "electra": {
        "dense": ("generator_predictions.dense",),
        "norm": ("generator_predictions.LayerNorm",),
        "bias": ("generator_lm_head.bias",),
    },
    "albert": {
        "dense": ("predictions.dense",),
        "norm": ("predictions.LayerNorm",),
        "bias": ("predictions.bias", "predictions.decoder.bias"),
    },
}
_NAMES |= dict.fromkeys(("xlm-roberta", "camembert", "mpnet"), _NAMES["roberta"])
_GELU = ("roberta", "xlm-roberta", "camembert", "mpnet", "electra")
_EPS = 1e-12
_PARTS = {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias"}
_NORM = (("weight", "gamma"), ("bias", "beta"))

logger = logging.getLogger(__name__)


class MlmHead(nn.Module):
    """logits = E . norm(act(W h + b)) + c, E the encoder's own word embeddings (Devlin et al., arXiv:1810.04805)."""

    def __init__(self, config: Any, table: Tensor) -> None:
        super().__init__()
        vocabulary, width = table.shape
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", _EPS))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        named = getattr(config, "hidden_act", None) or getattr(config, "activation", None) or "gelu"
        self.activation = ACT2FN["gelu" if config.model_type in _GELU else named]

    def forward(self, hidden_MD: Tensor, table_VE: Tensor) -> Tensor:
        """Logits [M, V] of M tokens' states."""
        mixed_ME = self.activation(self.dense(hidden_MD)).float()
        mixed_ME = layer_norm(mixed_ME, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)
        return linear(mixed_ME, table_VE, self.bias)


def attach(ranker: Ranker, seed: int) -> bool:
    """Put the head of the ranker's backbone on it; True where its checkpoint had one, else it is drawn from `seed`.

    Raises BackboneError for rankers that read no masked tokens.
    """
    backbone, tokenizer = ranker.backbone, ranker.tokenizer
    if ranker.key not in MLM_RANKERS or tokenizer.mask_token_id is None:
        raise BackboneError(
            f"loss mlm: {ranker.key} on {ranker.spec.backbone} has no masked-language-model head or [MASK] token; "
            f"it runs on {', '.join(MLM_RANKERS)} with a BERT-like backbone: take it out of extra_losses"
        )
    table = backbone.get_input_embeddings().weight
    head = MlmHead(backbone.config, table)
    init_fresh(head.named_parameters(), seed, std=getattr(backbone.config, "initializer_range", 0.02))
    given = _pretrained(resolve(ranker.spec.backbone), backbone.config.model_type)
    fits = bool(given) and all(given[name].shape == value.shape for name, value in head.state_dict().items())
    if fits:
        head.load_state_dict(given)
    else:
        logger.warning("loss mlm: %s has no masked-language-model head; a fresh one learns", ranker.spec.backbone)
    ranker.attach_head(HEAD, head.to(table.device), fresh=not fits)
    return fits


def _pretrained(folder: Path, model_type: str) -> dict[str, Tensor]:
    """The head's tensors in the folder's checkpoint; empty unless all are there."""
    wanted = _NAMES.get(model_type, {})
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                names = set(opened.keys())
                for part, name in _candidates(wanted):
                    if name in names and part not in found:
                        # Copied: views of the mapped file lie at odd addresses.
                        found[part] = opened.get_tensor(name).float().clone()
        except SafetensorError as error:
            raise BackboneError(f"{file}: weights cannot be read: {error}") from None
    return found if found.keys() == _PARTS else {}


def _candidates(wanted: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """(our name, name in a checkpoint); old BERT checkpoints say gamma and beta for a norm's weight and bias."""
    pairs = [(f"dense.{kind}", f"{name}.{kind}") for name in wanted.get("dense", ()) for kind in ("weight", "bias")]
    for name in wanted.get("norm", ()):
        pairs += [(f"norm.{ours}", f"{name}.{theirs}") for ours, old in _NORM for theirs in (ours, old)]
    return pairs + [("bias", name) for name in wanted.get("bias", ())]
