"""What decides the output of a ranker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

NOT_IDENTITY = {
    "backbone",  # a place; the weights have their own digest
    "dropout",
    "output_dropout",
    "freeze_word_embeddings",
    "gradient_checkpointing",
}


def output_identity(ranker: Ranker) -> dict[str, Any]:
    """Architecture with its caps, weights and tokenizer; options that only training reads do not count."""
    return {
        "ranker": ranker.key,
        "options": ranker.spec.model_dump(mode="json", exclude=NOT_IDENTITY),
        "weights": ranker.weight_digest(),
        "tokenizer": ranker.tokenizer_digest,
    }


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the name, dtype, shape and bytes of every tensor, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
