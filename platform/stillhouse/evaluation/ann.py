"""Approximate nearest neighbours (FAISS) over encoded documents, for rankers whose score is a product of vectors.

The indexes look for the largest inner product, which for vectors of length 1 is the largest cosine. On vectors of
spread lengths that found more at equal cost than distances with one more dimension (Bachrach et al., RecSys 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.artifacts import cached_folder, file_digest, stable_hash
from stillhouse.errors import RecipeError, StoreError
from stillhouse.evaluation.encoded import EncodedDocs
from stillhouse.evaluation.rerank import Progress

BUILD: dict[str, dict[str, int]] = {
    "flat": {},
    "hnsw": {"m": 32, "ef_construction": 200},
    "ivf": {"nlist": 0},
    "ivfpq": {"nlist": 0, "bytes": 0},
}
"""What an index depends on, with defaults; 0: chosen by the number of vectors, and their width / 4."""

SEARCH: dict[str, dict[str, int]] = {
    "flat": {"per_token": 0},
    "hnsw": {"ef_search": 128, "per_token": 0},
    "ivf": {"nprobe": 0, "per_token": 0},
    "ivfpq": {"nprobe": 0, "refine": 4, "per_token": 0},
}
"""What may change from search to search. nprobe 0: an eighth of the lists; per_token 0: the depth, at least 128."""

_VERSION = 1
_SEED = 1234
_CODES = 256
"""Centroids of a product quantiser with 8 bits."""
_SPARE = 16
"""More than asked for is fetched: exact scores then settle the last places."""


@dataclass(frozen=True)
class AnnOptions:
    kind: str
    build: dict[str, int]
    search: dict[str, int]


def ann_options(kind: str, given: Sequence[str] = ()) -> AnnOptions:
    """Defaults of a kind with `KEY=VALUE` changes; RecipeError for what it does not know."""
    if kind not in BUILD:
        raise RecipeError(f"index {kind}: expected one of exact, {', '.join(BUILD)}")
    build, search = dict(BUILD[kind]), dict(SEARCH[kind])
    for text in given:
        key, _, value = text.partition("=")
        part = build if key in build else search
        if key not in part:
            raise RecipeError(f"index option {text!r}: {kind} has {', '.join([*build, *search])}")
        if not value.isdecimal() or int(value) < 1:
            raise RecipeError(f"index option {text!r}: expected {key}=N with N at least 1")
        part[key] = int(value)
    return AnnOptions(kind, build, search)


class AnnIndex:
    """A FAISS index over all vectors of `encoded`, with the options of its searches."""

    def __init__(self, index: Any, options: AnnOptions, width: int) -> None:
        self.index = index
        self.options = options
        self.width = width

    @property
    def per_token(self) -> int:
        """Vectors fetched for each query token; 0 leaves it to the depth."""
        return self.options.search["per_token"]

    def nearest(self, queries_QD: np.ndarray, count: int) -> np.ndarray:
        """Numbers of the vectors with the largest products, int64 [Q, count]; -1 where fewer were found."""
        count = min((count + _SPARE) * self.options.search.get("refine", 1), self.index.ntotal)
        self._prepare(count)
        found: np.ndarray = self.index.search(widened(queries_QD, self.width), count)[1]
        return found

    def _prepare(self, count: int) -> None:
        if self.options.kind == "hnsw":
            self.index.hnsw.efSearch = max(self.options.search["ef_search"], count)
        elif self.options.kind in ("ivf", "ivfpq"):
            self.index.nprobe = min(self.options.search["nprobe"] or max(1, self.index.nlist // 8), self.index.nlist)


def open_index(encoded: EncodedDocs, options: AnnOptions, root: Path, *, progress: Progress | None = None) -> AnnIndex:
    """The index over `encoded`, below `root/indexes/<key>/`, built unless it is there; `progress` counts vectors.

    FAISS files are its own format: only those that this function wrote are read, by the digest noted then.
    """
    faiss = _faiss()
    key = stable_hash({"version": _VERSION, "encoded": encoded.key, "kind": options.kind, **options.build})
    folder = Path(root).absolute() / "indexes" / key

    def build(temporary: Path) -> dict[str, Any]:
        index = _build(faiss, encoded, options, progress)
        faiss.write_index(index, str(temporary / "index.faiss"))
        return {
            "encoded": encoded.key,
            "kind": options.kind,
            "width": index.d,
            "vectors": index.ntotal,
            "sha256": file_digest(temporary / "index.faiss"),
            "faiss": faiss.__version__,
        }

    facts = cached_folder(folder, build)
    path = folder / "index.faiss"
    if not path.is_file() or file_digest(path) != facts["sha256"]:
        raise StoreError(f"{path}: not the file that was written; delete {folder} and run the command again")
    return AnnIndex(faiss.read_index(str(path)), options, int(facts["width"]))


def _build(faiss: Any, encoded: EncodedDocs, options: AnnOptions, progress: Progress | None) -> Any:
    total = int(encoded.first_vectors[-1])
    if not total:
        raise RecipeError("index: no document has a vector; use --index exact")
    # Product quantisers want groups of 4, and zeros change no product.
    width = -(-encoded.vectors(0).shape[1] // 4) * 4
    index = _empty(faiss, options, total, width)
    if not index.is_trained:
        index.train(_sample(encoded, width, total, 64 * max(index.nlist, _CODES)))
    done = 0
    for shard in encoded.shards:
        vectors = widened(encoded.vectors(shard), width)
        index.add(vectors)
        done += len(vectors)
        if progress is not None:
            progress(done, total)
    return index


def _empty(faiss: Any, options: AnnOptions, total: int, width: int) -> Any:
    """An index without vectors; IVF and PQ are still to be trained."""
    if options.kind == "flat":
        return faiss.IndexFlatIP(width)
    if options.kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, options.build["m"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = options.build["ef_construction"]
        return index
    # FAISS asks for 39 vectors a list; below that k-means makes lists of single vectors.
    lists = options.build["nlist"] or max(1, min(int(4 * math.sqrt(total)), total // 39))
    if lists > total:
        raise RecipeError(f"index option nlist={lists}: there are {total} vectors; give fewer lists")
    quantizer = faiss.IndexFlatIP(width)
    if options.kind == "ivf":
        index = faiss.IndexIVFFlat(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        if total < _CODES:
            raise RecipeError(f"index ivfpq needs {_CODES} vectors to learn its codes, there are {total}; use ivf")
        parts = options.build["bytes"] or width // 4
        if width % parts:
            raise RecipeError(f"index option bytes={parts}: must divide {width}, the width of the vectors in the index")
        index = faiss.IndexIVFPQ(quantizer, width, lists, parts, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.min_points_per_centroid = 1
    index.cp.min_points_per_centroid = 1
    index.cp.seed = _SEED
    return index


def widened(vectors_RD: np.ndarray, width: int) -> np.ndarray:
    """Vectors with zeros up to `width`."""
    wide = np.zeros((len(vectors_RD), width), dtype=np.float32)
    wide[:, : vectors_RD.shape[1]] = vectors_RD
    return wide


def _sample(encoded: EncodedDocs, width: int, total: int, wanted: int) -> np.ndarray:
    """A seeded sample of the vectors, about equally many of each shard for its size."""
    rng = np.random.default_rng(_SEED)
    parts = []
    for shard in encoded.shards:
        vectors = encoded.vectors(shard)
        count = min(len(vectors), math.ceil(wanted * len(vectors) / total))
        chosen = np.sort(rng.choice(len(vectors), count, replace=False))
        parts.append(widened(vectors[chosen], width))
    return np.concatenate(parts)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise RecipeError("an index needs FAISS: pip install 'stillhouse[ann]', or use --index exact") from None
    return faiss
