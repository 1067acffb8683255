"""Rows drawn uniformly from a whole corpus, without making a permutation of millions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 64
"""Rows drawn at a time; fixed, so that what was drawn does not depend on how many are wanted."""
SMALL = 8_192
"""A corpus up to this size is permuted: rejection would draw its last rows again and again."""


def uniform_rows(generator: np.random.Generator, num_docs: int) -> Iterator[int]:
    """Distinct rows of the corpus in random order; whoever takes fewer takes a prefix.

    A large corpus is drawn from with replacement and repeats are dropped, which is the same distribution; the iterator
    ends after 20 draws per document.
    """
    if num_docs <= SMALL:
        yield from generator.permutation(num_docs).tolist()
        return
    seen: set[int] = set()
    for _ in range(20 * num_docs // BLOCK):
        for row in generator.integers(num_docs, size=BLOCK).tolist():
            if row not in seen:
                seen.add(row)
                yield row
