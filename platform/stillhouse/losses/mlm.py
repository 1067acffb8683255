"""Masked language modelling, an auxiliary loss on tokens instead of scores (Menon et al. 2022, App. C.10)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stillhouse.errors import TrainingError
from stillhouse.losses.base import AuxiliaryLoss

IGNORED = -100
"""Label of a token that was not masked, as in transformers."""


def mlm(logits_PLV: Tensor, label_PL: Tensor) -> tuple[Tensor, Tensor]:
    """Value and weight of each text, both [P]: mean cross-entropy over its masked tokens, and their number.

    The weighted mean is that over all masked tokens. `label_PL` holds token ids, `IGNORED` elsewhere; logits there may
    be anything. A text without masked tokens has value 0, weight 0.
    """
    if logits_PLV.shape[:-1] != label_PL.shape or label_PL.dim() != 2:
        raise TrainingError(
            f"loss 'mlm': logits {tuple(logits_PLV.shape)} must be [P, L, V] and labels {tuple(label_PL.shape)} [P, L]"
        )
    masked_PL = label_PL != IGNORED
    dtype = torch.promote_types(logits_PLV.dtype, torch.float32)
    # Only the masked tokens' rows are upcast: the full [P, L, V] in float32 would be the largest tensor of the step.
    value_M = cross_entropy(logits_PLV[masked_PL].to(dtype), label_PL[masked_PL], reduction="none")
    value_PL = torch.zeros(label_PL.shape, dtype=dtype, device=value_M.device).masked_scatter(masked_PL, value_M)
    weight_P = masked_PL.sum(-1)
    return value_PL.sum(-1) / weight_P.clamp(min=1), weight_P.to(dtype)


LOSS = AuxiliaryLoss(
    function=mlm,
    description="masked-language-model loss beside another one: cross-entropy of the masked tokens",
    paper="Devlin et al. 2019; Menon et al. 2022, App. C.10",
)
