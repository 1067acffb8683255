"""Indexes of vectors against products computed by numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stillhouse.errors import RecipeError, StoreError
from stillhouse.evaluation.ann import AnnIndex, ann_options, open_index
from stillhouse.evaluation.approximate import recall
from stillhouse.evaluation.encoded import EncodedDocs

DOCS, QUERIES, WIDTH = 2000, 50, 16


def stored(vectors: np.ndarray, folder: Path) -> EncodedDocs:
    """Vectors as a ranker's shards hold them, in three of them."""
    encoded = EncodedDocs(folder, "test", len(vectors), per_shard=800)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in encoded.shards:
        rows = encoded.rows(shard)
        save_file({"values": torch.from_numpy(vectors[rows.start : rows.stop])}, encoded.path(shard), {"key": "test"})
    return encoded


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Normal vectors in 16 dimensions, document lengths spread by a factor of four; seed 5."""
    rng = np.random.default_rng(5)
    docs = rng.normal(size=(DOCS, WIDTH)) * rng.uniform(0.5, 2.0, size=(DOCS, 1))
    return docs.astype(np.float32), rng.normal(size=(QUERIES, WIDTH)).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def recall_at_10(index: AnnIndex, docs: np.ndarray, queries: np.ndarray) -> float:
    """Of the 10 largest products, the share among the 10 largest of those that were found."""
    products = queries @ docs.T
    shares = []
    for row, found in zip(products, index.nearest(queries, 10), strict=True):
        chosen = np.unique(found[found >= 0])
        best = chosen[np.argsort(-row[chosen])[:10]]
        shares.append(len(set(best.tolist()) & set(np.argsort(-row)[:10].tolist())) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(
    ("kind", "given", "least"),
    [
        ("flat", [], 1.0),
        ("hnsw", ["m=16", "ef_construction=100", "ef_search=100"], 0.95),
        ("ivf", ["nlist=40", "nprobe=24"], 0.95),
        # Codes of 8 bytes for 16 numbers are rough; four times the depth is fetched.
        ("ivfpq", ["nlist=20", "nprobe=20", "bytes=8"], 0.8),
    ],
)
def test_recall(
    kind: str, given: list[str], least: float, similarity: str, data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    docs, queries = data if similarity == "dot" else tuple(map(unit, data))
    index = open_index(stored(docs, tmp_path / "shards"), ann_options(kind, given), tmp_path)
    assert index.index.ntotal == DOCS
    assert recall_at_10(index, docs, queries) >= least


def test_an_index_is_built_once_and_only_its_own_file_is_read(
    data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    encoded = stored(data[0][:300], tmp_path / "shards")
    seen: list[tuple[int, int]] = []
    first = open_index(encoded, ann_options("ivf"), tmp_path, progress=lambda *state: seen.append(state))
    # 300 // 39 lists.
    assert first.index.nlist == 7
    assert seen[-1] == (300, 300)
    # How it is searched is no part of what it is.
    second = open_index(encoded, ann_options("ivf", ["nprobe=3"]), tmp_path, progress=lambda *state: seen.append(state))
    assert len(seen) == 1
    assert first.nearest(data[1], 5).shape == (QUERIES, 21)
    assert second.nearest(data[1], 5).max() < 300
    (file,) = tmp_path.glob("indexes/*/index.faiss")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="not the file that was written; delete"):
        open_index(encoded, ann_options("ivf"), tmp_path)


def test_more_than_there_is(data: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    index = open_index(stored(data[0][:6], tmp_path / "shards"), ann_options("hnsw"), tmp_path)
    assert sorted(index.nearest(data[1][:1], 100)[0].tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("annoy", [], "index annoy: expected one of exact, flat, hnsw, ivf, ivfpq"),
        ("hnsw", ["nprobe=4"], "hnsw has m, ef_construction, ef_search, per_token"),
        ("ivf", ["nprobe=0"], "expected nprobe=N with N at least 1"),
        ("ivf", ["nlist=many"], "expected nlist=N"),
        ("ivf", ["nlist=400"], "nlist=400: there are 100 vectors"),
        ("ivfpq", [], "ivfpq needs 256 vectors to learn its codes, there are 100"),
    ],
)
def test_options_are_checked(
    kind: str, given: list[str], message: str, data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    encoded = stored(data[0][:100], tmp_path / "shards")
    with pytest.raises(RecipeError, match=message):
        open_index(encoded, ann_options(kind, given), tmp_path)


def test_without_faiss(data: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RecipeError, match=r"needs FAISS: pip install 'stillhouse\[ann\]'"):
        open_index(stored(data[0][:10], tmp_path / "shards"), ann_options("hnsw"), tmp_path)


def test_recall_by_hand() -> None:
    exact = {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"a": 1.0, "b": 1.0}}
    # q1: a of a, b. q2: c ties with the second.
    found = {"q1": {"a": 3.0, "c": 1.0}, "q2": {"a": 1.0, "c": 1.0}}
    assert recall(found, exact, 2) == (1 / 2 + 1) / 2
    # Nothing found for q2.
    assert recall({"q1": exact["q1"]}, exact, 3) == 1 / 2
