"""Gradient caching (GradCache, Gao et al. 2021, arXiv:2101.06983): a batch of any size in the memory of a micro-batch.

A loss over all documents of a step needs all their vectors at once, but not what made them. So the micro-batches are
encoded without a graph, the loss gives the gradient of each vector, and every micro-batch is encoded again, this time
with a graph, to carry its vectors' gradients on to the weights. The result is that of one big batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from stillhouse.rankers.batching import Batch
from stillhouse.rankers.dual_encoder import DualEncoder


class GradientCache:
    """The vectors of one rank's micro-batches, and the way back from their gradients to the weights.

    `seed_of(i)`: what dropout draws from in micro-batch i, both times.
    """

    def __init__(
        self,
        ranker: DualEncoder,
        batches: Sequence[Batch],
        autocast: Callable[[], AbstractContextManager[None]],
        seed_of: Callable[[int], int],
    ) -> None:
        self.ranker = ranker
        self.batches = batches
        self.autocast = autocast
        self.seed_of = seed_of
        self.leaves: tuple[Tensor, Tensor] | None = None

    def encode(self) -> tuple[Tensor, Tensor]:
        """Vectors of the queries [Q, D] and of the documents [Q * K, D] by slot, as leaves: a loss on them leaves the
        gradients that `backward` carries on."""
        with torch.no_grad():
            encoded = [self._encode(number) for number in range(len(self.batches))]
        queries_QD, docs_ND = (torch.cat(parts).requires_grad_() for parts in zip(*encoded, strict=True))
        self.leaves = queries_QD, docs_ND
        return self.leaves

    def backward(self) -> None:
        """Add to the weights' gradients what the gradients of the vectors ask for."""
        if self.leaves is None:
            raise RuntimeError("backward before encode: there are no vectors yet")
        query, doc = 0, 0
        for number in range(len(self.batches)):
            queries, docs = self._encode(number)
            wanted = [
                _gradient(self.leaves[0], query, len(queries)),
                _gradient(self.leaves[1], doc, len(docs)),
            ]
            torch.autograd.backward([queries, docs], wanted)
            query, doc = query + len(queries), doc + len(docs)

    def _encode(self, number: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(self.seed_of(number))
        with self.autocast():
            return self.ranker.encode_batch(self.batches[number])


def _gradient(leaf: Tensor, start: int, count: int) -> Tensor:
    rows = slice(start, start + count)
    return torch.zeros_like(leaf[rows]) if leaf.grad is None else leaf.grad[rows]
