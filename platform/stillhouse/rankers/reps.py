"""Representations of texts: one vector each (a Tensor), or one per token (`Vectors`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Vectors:
    """N texts with up to L vectors of D dimensions each; `mask_NL` is False in padding."""

    values_NLD: Tensor
    mask_NL: Tensor

    def __len__(self) -> int:
        return len(self.values_NLD)

    def __getitem__(self, rows: Tensor | slice) -> Vectors:
        return Vectors(self.values_NLD[rows], self.mask_NL[rows])

    def to(self, device: torch.device | str) -> Vectors:
        return Vectors(self.values_NLD.to(device), self.mask_NL.to(device))


Reps: TypeAlias = Tensor | Vectors


def concatenate(parts: Sequence[Reps]) -> Reps:
    """All parts of one kind, row after row; `Vectors` are padded to the longest."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    vectors = [part for part in parts if isinstance(part, Vectors)]
    if not vectors:
        return torch.cat(tensors)
    longest = max(part.mask_NL.shape[1] for part in vectors)
    missing = [longest - part.mask_NL.shape[1] for part in vectors]
    values = [pad(part.values_NLD, (0, 0, 0, gap)) for part, gap in zip(vectors, missing, strict=True)]
    masks = [pad(part.mask_NL, (0, gap)) for part, gap in zip(vectors, missing, strict=True)]
    return Vectors(torch.cat(values), torch.cat(masks))
