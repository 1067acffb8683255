"""BM25 as Lucene scores it (Kamphuis et al., ECIR 2020, "accurate" variant), by bm25s.

score(q, d) = sum over query tokens t of ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 (1 - b + b |d| / avgdl))

Words of two or more characters, lower case, English stop words dropped, Snowball English stems.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer

from stillhouse.artifacts import cached_folder, stable_hash
from stillhouse.candidates.ranking import best_first, id_ranks
from stillhouse.collection.texts import Collection, Texts
from stillhouse.errors import CollectionError

CHUNK = 20_000
"""Documents whose stems stand in memory as strings at a time."""

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG when imported


def version() -> dict[str, str]:
    """What the scores depend on besides texts and parameters."""
    return {"bm25s": bm25s.__version__, "stemmer": Stemmer.version()}


def tokenise(texts: Sequence[str]) -> list[list[str]]:
    """Stems of each text, in order."""
    stems: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="english", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return stems


def rank(
    collection: Collection, split_name: str, *, k1: float, b: float, depth: int, root: Path
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """(query row, (doc rows, scores)) of each query; only documents with a score above 0 are candidates."""
    queries = collection.splits[split_name].queries
    index = _index(collection.docs, k1, b, root)
    ranks = id_ranks(collection.docs.ids)
    for query_row, tokens in enumerate(tokenise(queries.texts(range(len(queries))))):
        # Tokens that no document holds are dropped here: bm25s cannot score an empty list.
        token_ids = index.get_tokens_ids(tokens)
        scores = index.get_scores_from_ids(token_ids) if token_ids else np.zeros(len(ranks), dtype=np.float32)
        hits = np.flatnonzero(scores > 0)
        best = hits[best_first(scores[hits], ranks[hits], depth)]
        yield query_row, (best, scores[best])


def _numbered(docs: Texts) -> tuple[list[array[int]], dict[str, int]]:
    """The stems of each document as numbers, and the number of each stem.

    A number takes 4 bytes, a string of its own about 55: of a million documents that is most of the memory.
    """
    vocabulary: dict[str, int] = {}
    numbered = []
    for start in range(0, len(docs), CHUNK):
        for stems in tokenise(docs.texts(range(start, min(start + CHUNK, len(docs))))):
            numbered.append(array("i", [vocabulary.setdefault(stem, len(vocabulary)) for stem in stems]))
    return numbered, vocabulary


def _index(docs: Texts, k1: float, b: float, root: Path) -> bm25s.BM25:
    """The index of all documents, kept on disk: every split of a collection needs it."""
    path = Path(root) / "bm25" / stable_hash([docs.digest, k1, b, version()])

    def build(folder: Path) -> dict[str, Any]:
        tokens, vocabulary = _numbered(docs)
        if not vocabulary:
            raise CollectionError(f"{docs.path}: no document has a word that BM25 can index")
        index = bm25s.BM25(method="lucene", k1=k1, b=b)
        index.index((tokens, vocabulary), create_empty_token=False, show_progress=False)
        index.save(str(folder), show_progress=False)
        return {"documents": len(tokens), "tokens": sum(map(len, tokens))}

    cached_folder(path, build)
    return bm25s.BM25.load(str(path), mmap=True, load_corpus=False)
