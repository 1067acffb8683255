"""Masked language modelling on the inputs of a micro-batch: which tokens are hidden, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stillhouse.losses.mlm import IGNORED, mlm
from stillhouse.rankers.batching import Tokens
from stillhouse.training.batches import MicroBatch
from stillhouse.training.groups import keyed_generator

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

REPLACED, SHUFFLED = 0.8, 0.9
"""Shares of the chosen tokens: below 0.8 become [MASK], below 0.9 any token, the others stay (BERT's 80/10/10)."""


@dataclass(frozen=True)
class Masked:
    """One forward of the encoder: P rows of one side, and the ids to predict (`IGNORED` elsewhere)."""

    tokens: Tokens
    label_PL: torch.Tensor
    side: str

    def loss_sum(self, ranker: Ranker) -> torch.Tensor:
        """Sum of the cross-entropies of the chosen tokens."""
        at_PL = self.label_PL != IGNORED
        # Only the chosen tokens meet the vocabulary: as M texts of one token.
        logits_MV = ranker.mask_logits(self.tokens, at_PL, self.side)
        value_M, weight_M = mlm(logits_MV.unsqueeze(1), self.label_PL[at_PL].unsqueeze(1))
        return (value_M * weight_M).sum()

    @property
    def count(self) -> int:
        return int((self.label_PL != IGNORED).sum())


def masked_inputs(micro: MicroBatch, ranker: Ranker, probability: float, key: tuple[object, ...]) -> list[Masked]:
    """The inputs of a micro-batch with tokens chosen at random, keyed by `key` and the place in the query's group.

    So the choice is that of any micro-batch size and any number of ranks. Special tokens are never chosen, nor those
    of padding queries and dummy rows.
    """
    vocabulary = _Vocabulary(ranker)
    num_queries, width = micro.mask_QK.shape
    counts_Q = micro.counts_Q.tolist()

    def masked(tokens: Tokens, places: Iterable[tuple[int, object]], side: str) -> Masked:
        keys = [
            (*key, micro.query_rows[query], place) if query < num_queries and counts_Q[query] else None
            for query, place in places
        ]
        return Masked(*vocabulary.mask(tokens, keys, probability), side)

    found = []
    if micro.batch.queries is not None:
        found.append(masked(micro.batch.queries, ((query, "query") for query in range(num_queries)), "query"))
    for piece in micro.batch.pieces:
        # A dummy's slot lies behind the last query.
        found.append(masked(piece.tokens, (divmod(slot, max(width, 1)) for slot in piece.slots_P.tolist()), "doc"))
    return found


class _Vocabulary:
    def __init__(self, ranker: Ranker) -> None:
        self.special = np.asarray(sorted(ranker.tokenizer.all_special_ids))
        self.mask_id = ranker.tokenizer.mask_token_id
        self.size = len(ranker.encoder_of("query").get_input_embeddings().weight)

    def mask(
        self, tokens: Tokens, keys: Sequence[tuple[object, ...] | None], probability: float
    ) -> tuple[Tokens, torch.Tensor]:
        """The rows with their chosen tokens hidden, and those tokens' ids [P, L]; a row without a key stays."""
        ids_PL = tokens.ids_PL.cpu().numpy().copy()
        label_PL = np.full_like(ids_PL, IGNORED)
        lengths_P = tokens.mask_PL.sum(1).tolist()
        for ids_L, label_L, length, key in zip(ids_PL, label_PL, lengths_P, keys, strict=True):
            if key is not None:
                self._mask_row(ids_L[:length], label_L[:length], probability, keyed_generator(*key))
        device = tokens.ids_PL.device
        hidden = Tokens(torch.from_numpy(ids_PL).to(device), tokens.mask_PL, tokens.types_PL)
        return hidden, torch.from_numpy(label_PL).to(device)

    def _mask_row(
        self, ids_L: np.ndarray, label_L: np.ndarray, probability: float, generator: np.random.Generator
    ) -> None:
        """Write one row's labels, and hide its chosen tokens, in place."""
        chosen_L = (generator.random(len(ids_L)) < probability) & ~np.isin(ids_L, self.special)
        kind_L = generator.random(len(ids_L))
        any_L = generator.integers(self.size, size=len(ids_L))
        label_L[chosen_L] = ids_L[chosen_L]
        hidden_L = np.where(kind_L < REPLACED, self.mask_id, np.where(kind_L < SHUFFLED, any_L, ids_L))
        ids_L[chosen_L] = hidden_L[chosen_L]
