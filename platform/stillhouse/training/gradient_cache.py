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
        with torch.no_grad():
            encoded = [self._encode(number) for number in range(len(batches))]
        self.queries_QD = torch.cat([queries for queries, _ in encoded]).requires_grad_()
        """A leaf: its gradient is what a loss on these vectors leaves."""
        self.docs_ND = torch.cat([docs for _, docs in encoded]).requires_grad_()
        """A leaf; N = Q * K, by slot."""

    def backward(self) -> None:
        """Add to the weights' gradients what the gradients of the vectors ask for."""
        query, doc = 0, 0
        for number in range(len(self.batches)):
            queries, docs = self._encode(number)
            wanted = [_gradient(self.queries_QD, query, len(queries)), _gradient(self.docs_ND, doc, len(docs))]
            torch.autograd.backward([queries, docs], wanted)
            query, doc = query + len(queries), doc + len(docs)

    def _encode(self, number: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(self.seed_of(number))
        with self.autocast():
            return self.ranker.encode_batch(self.batches[number])


def _gradient(leaf: Tensor, start: int, count: int) -> Tensor:
    rows = slice(start, start + count)
    return torch.zeros_like(leaf[rows]) if leaf.grad is None else leaf.grad[rows]
