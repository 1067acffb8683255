"""What decides the output of a ranker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
