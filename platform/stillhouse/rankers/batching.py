"""Rows of token ids, their special tokens, and how rows become padded pieces of roughly equal cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from stillhouse.collection.tokens import Tokeniser

PAD_MULTIPLE = 8
TOKEN_BUDGET = {"cpu": 2_048, "cuda": 65_536}
"""Padded tokens of one forward while scoring: few on CPU, where a small batch stays in cache. Fixed for each device,
since the last bits of a score follow it."""


def budget_of(device: torch.device) -> int:
    """TOKEN_BUDGET of a device; other accelerators have that of a GPU."""
    return TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cuda"])


Ids = Sequence[int] | np.ndarray
Row = tuple[list[int], list[int]]
"""Token ids of one model input and the segment (0 query, 1 document) of each."""


@dataclass(frozen=True)
class Tokens:
    """P model inputs, padded on the right to L tokens."""

    ids_PL: Tensor
    mask_PL: Tensor
    types_PL: Tensor

    def to(self, device: torch.device | str) -> Tokens:
        return Tokens(self.ids_PL.to(device), self.mask_PL.to(device), self.types_PL.to(device))


@dataclass(frozen=True)
class Piece:
    """Rows of one forward pass and the slot of each in the flattened [Q, K] scores; a dummy row has slot Q * K."""

    tokens: Tokens
    slots_P: Tensor

    def to(self, device: torch.device | str) -> Piece:
        return Piece(self.tokens.to(device), self.slots_P.to(device))


@dataclass(frozen=True)
class Batch:
    """Q queries with up to K documents each, ready for `Ranker.forward`."""

    mask_QK: Tensor
    pieces: tuple[Piece, ...]
    queries: Tokens | None = None
    """The queries on their own; only separable rankers read them apart."""

    def to(self, device: torch.device | str) -> Batch:
        queries = None if self.queries is None else self.queries.to(device)
        return Batch(self.mask_QK.to(device), tuple(piece.to(device) for piece in self.pieces), queries)


@dataclass(frozen=True)
class Template:
    """The special tokens around one text or between two, as the tokenizer itself places them."""

    specials: tuple[tuple[int, ...], ...]
    special_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def num_special(self) -> int:
        return sum(len(part) for part in self.specials)

    def fill(self, *texts: Ids) -> Row:
        """Token ids and segments of the texts with their special tokens."""
        ids, types = list(self.specials[0]), list(self.special_types[0])
        for text, kind, after, after_types in zip(
            texts, self.text_types, self.specials[1:], self.special_types[1:], strict=True
        ):
            content = text.tolist() if isinstance(text, np.ndarray) else list(text)
            ids += content
            ids += after
            types += [kind] * len(content)
            types += after_types
        return ids, types


def template_of(tokenizer: Any, num_texts: int) -> Template:
    """Read the special tokens off the tokenizer's own answer to a probe of one or two texts."""
    encoded = tokenizer(*("a", "b")[:num_texts], return_token_type_ids=True)
    places = encoded.sequence_ids(0)
    specials: list[list[int]] = [[] for _ in range(num_texts + 1)]
    types: list[list[int]] = [[] for _ in range(num_texts + 1)]
    text_types = list(range(num_texts))
    has_types = "token_type_ids" in tokenizer.model_input_names
    seen = 0
    for token, kind, place in zip(encoded["input_ids"], encoded["token_type_ids"], places, strict=True):
        if place is not None:
            seen = place + 1
            text_types[place] = kind if has_types else place
            continue
        # Without segments of its own: one special token closes the query, the rest open the document.
        own_kind = 0 if seen == 0 or (seen == 1 and not specials[1]) else num_texts - 1
        specials[seen].append(token)
        types[seen].append(kind if has_types else own_kind)
    return Template(tuple(map(tuple, specials)), tuple(map(tuple, types)), tuple(text_types))


def ids_by_text(reader: Tokeniser, texts: Sequence[str]) -> dict[str, list[int]]:
    """Content ids of each different text."""
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, reader.tokenise(distinct), strict=True))


def pad(rows: Sequence[Row], pad_id: int, max_length: int | None = None) -> Tokens:
    """Rows as tensors [P, L], L the longest row rounded up to a multiple of 8, never above `max_length`."""
    longest = max(1, *(len(ids) for ids, _ in rows)) if rows else 1
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    if max_length is not None:
        length = max(longest, min(length, max_length))
    ids_PL = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask_PL = np.zeros_like(ids_PL)
    types_PL = np.zeros_like(ids_PL)
    for row, (ids, types) in enumerate(rows):
        ids_PL[row, : len(ids)] = ids
        mask_PL[row, : len(ids)] = 1
        types_PL[row, : len(ids)] = types
    return Tokens(torch.from_numpy(ids_PL), torch.from_numpy(mask_PL), torch.from_numpy(types_PL))


def even_pieces(lengths: Sequence[int], num_pieces: int) -> list[list[int]]:
    """Positions, longest first, cut into `num_pieces` runs of about equal numbers of tokens; some may be empty."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    sorted_lengths = np.asarray(lengths, dtype=np.int64)[order]
    total = max(int(sorted_lengths.sum()), 1)
    middles = np.cumsum(sorted_lengths) - sorted_lengths / 2
    piece_of = np.minimum((middles * num_pieces / total).astype(np.int64), num_pieces - 1)
    return [order[piece_of == piece].tolist() for piece in range(num_pieces)]


def budget_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Positions, longest first, in batches of at most `token_budget` padded tokens (one row at least)."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    start = 0
    while start < len(order):
        longest = -(-max(lengths[order[start]], 1) // PAD_MULTIPLE) * PAD_MULTIPLE
        count = max(1, token_budget // longest)
        yield order[start : start + count]
        start += count


def utf8(text: str) -> str:
    """The text with lone surrogates replaced: they have no UTF-8 form and no token."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
