"""Where the score of a pair stands in [Q, K], and what stands where no pair is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillhouse.rankers.batching import Piece


def scatter(pieces: Sequence[tuple[Piece, Tensor]], mask_QK: Tensor) -> Tensor:
    """Scores of pieces [P] each at their slots of [Q, K], -inf elsewhere.

    Dummies add 0: every piece keeps its place in the graph, so that the backward passes of all ranks match.
    """
    num_queries, width = mask_QK.shape
    slots = torch.cat([piece.slots_P for piece, _ in pieces])
    scores = torch.cat([scores_P for _, scores_P in pieces])
    flat = scores.new_full((num_queries * width + 1,), float("-inf"))
    flat[-1] = 0.0
    flat = flat.index_put((slots,), scores)
    return flat[:-1].view(num_queries, width) + 0.0 * flat[-1]


def check_aligned(queries: Sequence[Any], docs: Sequence[Sequence[Any]]) -> None:
    """Raise ValueError unless there is one list of documents per query, and none is a bare string."""
    if isinstance(queries, str) or any(isinstance(row, str) for row in docs):
        raise ValueError("score takes a list of queries and, for each, a list of documents; got a bare string")
    if len(queries) != len(docs):
        raise ValueError(f"{len(queries)} queries, but {len(docs)} lists of documents: give one list per query")


def check_texts(queries: Sequence[Any], docs: Sequence[Sequence[Any]]) -> None:
    """Raise ValueError unless every query is a text and has a list of documents that are texts."""
    check_aligned(queries, docs)
    for number, (query, row) in enumerate(zip(queries, docs, strict=True)):
        if not isinstance(query, str):
            raise ValueError(f"query {number} is {query!r}: give a text")
        if not isinstance(row, Iterable):
            raise ValueError(f"the documents of query {number} are {row!r}: give a list of texts")
        for place, text in enumerate(row):
            if not isinstance(text, str):
                raise ValueError(f"document {place} of query {number} is {text!r}: give a text")


def check_ids(texts: Sequence[Any], ranker: Any) -> None:
    """Raise ValueError where a token id has no row among the ranker's embeddings."""
    config = getattr(ranker.backbone, "config", None)
    size = getattr(config, "vocab_size", None) or len(ranker.tokenizer)
    # All in one array: a GPU scores thousands of pairs in a second, and looking at each id alone would cost as much.
    ids = np.concatenate([np.asarray(one, dtype=np.int64) for one in texts]) if len(texts) else np.zeros(0, np.int64)
    if len(ids) and not (ids.min() >= 0 and ids.max() < size):
        raise ValueError(f"token ids run from {ids.min()} to {ids.max()}, but the vocabulary has 0 to {size - 1}")


def width_of(docs: Sequence[Sequence[Any]], width: int | None) -> int:
    """K: the longest list, or the `width` asked for, which must hold it."""
    longest = max((len(row) for row in docs), default=0)
    if width is not None and width < longest:
        raise ValueError(f"width is {width}, but a query has {longest} documents")
    return longest if width is None else width


def slot_mask(docs: Sequence[Sequence[Any]], width: int) -> Tensor:
    """Bool [Q, K]: True where a query has a document."""
    counts_Q = torch.tensor([len(row) for row in docs], dtype=torch.long)
    return torch.arange(width)[None, :] < counts_Q[:, None]
