"""Rankers that read query and document apart, so that document representations can be kept."""

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
from stillhouse.rankers.reps import Reps, Vectors, concatenate
from stillhouse.rankers.slots import check_aligned, scatter, slot_mask, width_of

ELEMENTS_AT_ONCE = 2**24


class SeparableRanker(Ranker):
    """Base of rankers whose score compares two representations made apart.

    Representations are one Tensor [N, D], or `Vectors` (one vector per token); both are indexed by row.
    """

    separable = True
    forward_methods: ClassVar[tuple[str, ...]] = ("encode_queries", "encode_docs", "interact")

    def __init__(self, spec: Any, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.max_positions = None if backbone is None else max_positions(backbone.config)
        self.template = self.make_template()
        self._check_caps()

    def make_template(self) -> Template:
        """What stands around one text."""
        return template_of(self.tokenizer, num_texts=1)

    def _check_caps(self) -> None:
        for side in ("query", "doc"):
            longest = len(self.row([0] * getattr(self.spec, f"{side}_max_length"), side)[0])
            if self.max_positions is not None and longest > self.max_positions:
                raise RecipeError(
                    f"{side}_max_length with its special tokens is {longest}, "
                    f"but {self.spec.backbone} reads {self.max_positions}: lower it"
                )

    def row(self, ids: Ids, side: str) -> Row:
        """One text (`side` is query or doc) cut at its cap, with its special tokens."""
        cap = self.spec.query_max_length if side == "query" else self.spec.doc_max_length
        return self.template.fill(ids[:cap])

    def pad(self, rows: Sequence[Row]) -> Tokens:
        return pad(rows, self.pad_id, self.max_positions)

    @abstractmethod
    def _encode(self, tokens: Tokens, side: str) -> Reps:
        """Representations of P rows of one side."""

    @abstractmethod
    def _compare(self, queries: Reps, docs: Reps) -> Tensor:
        """Scores of N queries with N documents, row by row, float32 [N]."""

    def _compare_all(self, queries: Reps, docs: Reps) -> Tensor:
        """Scores of every query with every document, float32 [Q, N]."""
        query_of = torch.arange(len(queries), device=self.device).repeat_interleave(len(docs))
        doc_of = torch.arange(len(docs), device=self.device).repeat(len(queries))
        return self._compare_chosen(queries, docs, query_of, doc_of).view(len(queries), len(docs))

    def _compare_chosen(self, queries: Reps, docs: Reps, query_of: Tensor, doc_of: Tensor) -> Tensor:
        step = ELEMENTS_AT_ONCE // (docs.values_NLD[0].numel() if isinstance(docs, Vectors) else docs.shape[1]) + 1
        parts = [
            self._compare(queries[query_of[start : start + step]], docs[doc_of[start : start + step]])
            for start in range(0, len(query_of), step)
        ]
        return torch.cat(parts)

    def encode_queries(self, queries: Sequence[Ids], *, token_budget: int = 2_048) -> Reps:
        """Representations of uncapped content ids, in their order."""
        return self._encode_sorted(queries, "query", token_budget)

    def encode_docs(self, docs: Sequence[Ids], *, token_budget: int = 2_048) -> Reps:
        """Representations of uncapped content ids, in their order."""
        return self._encode_sorted(docs, "doc", token_budget)

    def _encode_sorted(self, texts: Sequence[Ids], side: str, token_budget: int) -> Reps:
        rows = [self.row(ids, side) for ids in texts]
        places: list[int] = []
        parts = []
        for batch in budget_batches([len(ids) for ids, _ in rows], token_budget):
            parts.append(self._encode(self.pad([rows[place] for place in batch]).to(self.device), side))
            places += batch
        return concatenate(parts)[torch.from_numpy(np.argsort(places)).to(self.device)]

    def interact(self, queries: Reps, docs: Reps, slots_QK: Tensor | None = None) -> Tensor:
        """Scores, float32: [Q, N] of every pair, or [Q, K] of document `slots_QK[q, k]` (-1: padded, score -inf)."""
        if slots_QK is None:
            return self._compare_all(queries, docs)
        query_of, column = torch.nonzero(slots_QK >= 0, as_tuple=True)
        scores_QK = torch.full(slots_QK.shape, float("-inf"), device=self.device)
        if len(query_of):
            scores = self._compare_chosen(queries, docs, query_of, slots_QK[query_of, column])
            scores_QK[query_of, column] = scores
        return scores_QK

    def collate(
        self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], *, num_chunks: int = 1, width: int | None = None
    ) -> Batch:
        """Queries are one piece, documents `num_chunks`; see `Ranker.collate`."""
        check_aligned(queries, docs)
        width = width_of(docs, width)
        rows = [self.row(ids, "doc") for row in docs for ids in row]
        slots = [number * width + place for number, row in enumerate(docs) for place in range(len(row))]
        dummy_slot = len(queries) * width
        pieces = []
        for places in even_pieces([len(ids) for ids, _ in rows], num_chunks):
            held = [rows[place] for place in places] or [self.row([], "doc")]
            slots_P = [slots[place] for place in places] or [dummy_slot]
            pieces.append(Piece(self.pad(held), torch.tensor(slots_P)))
        return Batch(slot_mask(docs, width), tuple(pieces), self.pad([self.row(ids, "query") for ids in queries]))

    def forward(self, batch: Batch) -> Tensor:
        if batch.queries is None:
            raise ValueError("this batch has no queries of its own: collate it with this ranker")
        num_queries, width = batch.mask_QK.shape
        query_reps = self._encode(batch.queries, "query")
        scored = []
        for piece in batch.pieces:
            # A dummy stands with the first query.
            query_of = (piece.slots_P // max(width, 1)) % num_queries
            scored.append((piece, self._compare(query_reps[query_of], self._encode(piece.tokens, "doc"))))
        return scatter(scored, batch.mask_QK)

    def _score_ids(self, queries: Sequence[Ids], docs: Sequence[Sequence[Ids]], token_budget: int) -> np.ndarray:
        check_aligned(queries, docs)
        distinct_queries, query_rows = _distinct(queries, self.spec.query_max_length)
        flat = [ids for row in docs for ids in row]
        distinct_docs, doc_rows = _distinct(flat, self.spec.doc_max_length)
        mask_QK = slot_mask(docs, width_of(docs, None))
        slots_QK = torch.full(mask_QK.shape, -1)
        slots_QK[mask_QK] = torch.tensor(doc_rows, dtype=torch.long)
        if not flat:
            return np.full(mask_QK.shape, -np.inf, dtype=np.float32)
        query_reps = self.encode_queries(distinct_queries, token_budget=token_budget)
        doc_reps = self.encode_docs(distinct_docs, token_budget=token_budget)
        chosen = torch.tensor(query_rows, device=self.device)
        scores_QK: np.ndarray = self.interact(query_reps[chosen], doc_reps, slots_QK.to(self.device)).cpu().numpy()
        return scores_QK


def _distinct(texts: Sequence[Ids], cap: int) -> tuple[list[Ids], list[int]]:
    """The texts that differ within the cap, and for each text its place among them."""
    place: dict[bytes, int] = {}
    kept: list[Ids] = []
    rows = []
    for ids in texts:
        key = np.asarray(ids[:cap], dtype=np.int32).tobytes()
        if key not in place:
            place[key] = len(kept)
            kept.append(ids)
        rows.append(place[key])
    return kept, rows
