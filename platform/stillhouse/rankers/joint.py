"""Rankers that read query and document together: one row of tokens per pair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from stillhouse.errors import RecipeError
from stillhouse.rankers.backbones import max_positions
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import (
    Batch,
    Ids,
    Piece,
    Row,
    Template,
    Tokens,
    budget_batches,
    even_pieces,
    pad,
    template_of,
)
from stillhouse.rankers.slots import check_aligned, scatter, slot_mask, width_of


class JointRanker(Ranker):
    """Base of rankers whose score is a function of one row that holds both texts."""

    separable = False
    forward_methods: ClassVar[tuple[str, ...]] = ("score_rows",)

    def __init__(self, spec: Any, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.max_positions = max_positions(backbone.config)
        self.template = self.make_template()
        self._check_caps(self.template.num_special)

    def make_template(self) -> Template:
        """What stands around and between query and document."""
        return template_of(self.tokenizer, num_texts=2)

    def _check_caps(self, num_special: int) -> None:
        spec = self.spec
        total = spec.query_max_length + spec.doc_max_length + num_special
        if self.max_positions is not None and total > self.max_positions:
            raise RecipeError(
                f"query_max_length {spec.query_max_length} + doc_max_length {spec.doc_max_length} + {num_special} "
                f"special tokens is {total}, but {spec.backbone} reads {self.max_positions}: lower doc_max_length"
            )

    def row(self, query: Ids, doc: Ids) -> Row:
        """One pair with its special tokens, each text cut at its own cap."""
        return self.template.fill(query[: self.spec.query_max_length], doc[: self.spec.doc_max_length])

    def pad(self, rows: Sequence[Row]) -> Tokens:
        return pad(rows, self.pad_id, self.max_positions)

    def collate(
        self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], *, num_chunks: int = 1, width: int | None = None
    ) -> Batch:
        check_aligned(queries, docs)
        width = width_of(docs, width)
        rows, slots = self._rows(queries, docs, width)
        dummy_slot = len(queries) * width
        pieces = []
        for places in even_pieces([len(ids) for ids, _ in rows], num_chunks):
            held = [rows[place] for place in places] or [self.row([], [])]
            slots_P = [slots[place] for place in places] or [dummy_slot]
            pieces.append(Piece(self.pad(held), torch.tensor(slots_P)))
        return Batch(slot_mask(docs, width), tuple(pieces))

    def _rows(self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], width: int) -> tuple[list[Row], list[int]]:
        rows: list[Row] = []
        slots: list[int] = []
        for number, (query, row) in enumerate(zip(queries, docs, strict=True)):
            rows += [self.row(query, doc) for doc in row]
            slots += range(number * width, number * width + len(row))
        return rows, slots

    def forward(self, batch: Batch) -> Tensor:
        return scatter([(piece, self._score_rows(piece.tokens)) for piece in batch.pieces], batch.mask_QK)

    def score_rows(self, tokens: Tokens) -> Tensor:
        """Scores of P rows, float32 [P]."""
        return self._score_rows(tokens)

    @abstractmethod
    def _score_rows(self, tokens: Tokens) -> Tensor: ...

    def _score_ids(self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], token_budget: int) -> np.ndarray:
        check_aligned(queries, docs)
        width = width_of(docs, None)
        rows, slots = self._rows(queries, docs, width)
        flat = np.full(len(queries) * width, -np.inf, dtype=np.float32)
        for places in budget_batches([len(ids) for ids, _ in rows], token_budget):
            scores_P = self.score_rows(self.pad([rows[place] for place in places]).to(self.device))
            flat[[slots[place] for place in places]] = scores_P.cpu().numpy()
        return flat.reshape(len(queries), width)
