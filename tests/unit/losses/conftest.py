"""Random groups with padding and documents that the teacher did not score."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Groups = tuple[Tensor, Tensor, Tensor, Tensor]


def _make_groups(
    num_queries: int, num_docs: int, *, seed: int = 0, padded: float = 0.3, unscored: float = 0.1
) -> Groups:
    """Student, teacher, label and mask in float64. `padded` and `unscored` are shares; padding holds inf and NaN."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_queries, num_docs)
    student = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    teacher = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 1
    label = torch.multinomial(torch.tensor([0.7, 0.15, 0.1, 0.05]), num_queries * num_docs, True, generator=generator)
    label = label.view(shape)
    label[:, 0] = 1
    mask = torch.rand(shape, generator=generator) >= padded
    mask[:, 0] = True
    teacher[torch.rand(shape, generator=generator) < unscored] = torch.nan
    garbage = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e30], dtype=torch.float64)
    noise = garbage[torch.randint(4, (2, *shape), generator=generator)]
    label = torch.where(mask, label, -100)
    return torch.where(mask, student, noise[0]), torch.where(mask, teacher, noise[1]), label, mask


@pytest.fixture
def make_groups() -> Callable[..., Groups]:
    return _make_groups
