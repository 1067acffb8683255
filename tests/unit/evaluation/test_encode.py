"""Encoded documents: equal to those of the ranker, made once, resumed after a kill, and refused when damaged."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse.collection import Collection, token_ids
from stillhouse.errors import RecipeError, StoreError, TrainingError
from stillhouse.evaluation.encode import encode, encoding_of
from stillhouse.rankers import RANKERS, Ranker
from stillhouse.rankers.reps import Vectors

KILLED = """
import os, sys
from pathlib import Path
from stillhouse.collection import open_collection
from stillhouse.evaluation.encode import encode, encoding_of
from stillhouse.rankers import load_ranker

ranker, collection, root = load_ranker(sys.argv[1]), open_collection(Path(sys.argv[2])), Path(sys.argv[3])
encoded = encoding_of(ranker, collection.docs, root, per_shard=10)

def progress(done, total):
    if done > 30:
        os.kill(os.getpid(), 9)

encode(ranker, collection.docs, root, encoded, progress=progress)
"""


@pytest.fixture(scope="module")
def colbert(backbone: Path) -> Ranker:
    return RANKERS["colbert"].from_backbone(
        str(backbone), seed=1, query_max_length=8, doc_max_length=16, projection_dim=8
    )


@pytest.mark.parametrize("key", ["dual_encoder", "colbert"])
def test_shards_hold_what_the_ranker_encodes(
    key: str, request: pytest.FixtureRequest, toy: Collection, tmp_path: Path
) -> None:
    ranker = request.getfixturevalue(key)
    encoded = encoding_of(ranker, toy.docs, tmp_path, per_shard=25)
    seen: list[tuple[int, int]] = []
    assert encode(ranker, toy.docs, tmp_path, encoded, progress=lambda *state: seen.append(state)) == 3
    assert seen == [(25, 60), (50, 60), (60, 60)]
    ids = token_ids(toy.docs, ranker, tmp_path)
    with ranker.inference():
        whole = ranker.encode_docs([ids[row] for row in range(len(toy.docs))])
    assert encoded.multi_vector == isinstance(whole, Vectors)
    blocks = list(encoded.blocks(20))
    assert [(rows.start, rows.stop) for rows, _ in blocks] == [(0, 20), (20, 25), (25, 45), (45, 50), (50, 60)]
    some = np.array([0, 24, 25, 49, 59])
    pairs = [*((np.array(rows), reps) for rows, reps in blocks), (some, encoded.gather(some))]
    for rows, reps in pairs:
        if not isinstance(whole, Vectors):
            torch.testing.assert_close(reps, whole[torch.from_numpy(rows)], atol=1e-5, rtol=0)
            continue
        for place, row in enumerate(rows.tolist()):
            expected = whole.values_NLD[row][whole.mask_NL[row]]
            torch.testing.assert_close(reps.values_NLD[place][reps.mask_NL[place]], expected, atol=1e-5, rtol=0)
    counts = whole.mask_NL.sum(1).numpy() if isinstance(whole, Vectors) else np.ones(60, dtype=np.int64)
    assert encoded.first_vectors.tolist() == [0, *np.cumsum(counts).tolist()]
    owners = np.repeat(np.arange(60), counts)
    assert encoded.docs_of(np.arange(counts.sum())).tolist() == owners.tolist()


def test_a_killed_encoding_goes_on_with_the_shards_that_are_missing(
    dual_encoder: Ranker, toy: Collection, tmp_path: Path
) -> None:
    dual_encoder.save_pretrained(tmp_path / "ranker")
    arguments = [str(tmp_path / "ranker"), str(toy.path), str(tmp_path / "root")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    from stillhouse.rankers import load_ranker

    ranker = load_ranker(tmp_path / "ranker")
    encoded = encoding_of(ranker, toy.docs, tmp_path / "root", per_shard=10)
    # Killed when the fourth shard was encoded and not yet written.
    missing = encoded.missing()
    assert missing == [3, 4, 5]
    before = {shard: encoded.path(shard).stat() for shard in encoded.shards if shard not in missing}
    assert encode(ranker, toy.docs, tmp_path / "root", encoded) == len(missing)
    for shard, stat in before.items():
        after = encoded.path(shard).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert encode(ranker, toy.docs, tmp_path / "root", encoded) == 0
    fresh = encoding_of(ranker, toy.docs, tmp_path / "fresh", per_shard=10)
    encode(ranker, toy.docs, tmp_path / "fresh", fresh)
    for shard in encoded.shards:
        np.testing.assert_allclose(encoded.vectors(shard), fresh.vectors(shard), atol=1e-6)


def test_the_name_follows_weights_texts_and_dtype(
    dual_encoder: Ranker, backbone: Path, toy: Collection, tmp_path: Path
) -> None:
    def key(ranker: Ranker, texts: str = "docs") -> str:
        return encoding_of(ranker, toy.docs if texts == "docs" else toy.splits["dev"].queries, tmp_path).key

    caps = {"query_max_length": 8, "doc_max_length": 16}
    again = RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, **caps)
    assert key(again) == key(dual_encoder)
    assert key(dual_encoder, "queries") != key(dual_encoder)
    longer = RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=17)
    assert key(longer) != key(dual_encoder)
    half = again.for_scoring(torch.bfloat16)
    assert key(half) != key(dual_encoder)
    encoded = encoding_of(half, toy.docs, tmp_path)
    encode(half, toy.docs, tmp_path, encoded)
    # 60 vectors of 32 dimensions and 2 bytes, and a header.
    assert 60 * 32 * 2 < encoded.path(0).stat().st_size < 60 * 32 * 2 + 1000
    with torch.no_grad():
        next(longer.parameters()).add_(0.5)
    assert key(longer) not in (key(dual_encoder), key(half))


def test_what_cannot_be_used_is_named(
    dual_encoder: Ranker, cross_encoder: Ranker, backbone: Path, toy: Collection, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="needs a separable ranker, cross_encoder"):
        encoding_of(cross_encoder, toy.docs, tmp_path)
    encoded = encoding_of(dual_encoder, toy.docs, tmp_path, per_shard=30)
    encode(dual_encoder, toy.docs, tmp_path, encoded)
    path = encoded.path(1)
    path.write_bytes(path.read_bytes()[:100])
    again = encoding_of(dual_encoder, toy.docs, tmp_path, per_shard=30)
    with pytest.raises(StoreError, match=r"shard-000001\.safetensors: not a whole shard .*delete it"):
        again.vectors(1)
    # A shard of another encoding in its place.
    other = encoding_of(dual_encoder, toy.splits["dev"].queries, tmp_path, per_shard=30)
    encode(dual_encoder, toy.splits["dev"].queries, tmp_path, other)
    shutil.copy(other.path(0), path)
    with pytest.raises(StoreError, match="belongs to other documents or another ranker"):
        again.vectors(1)
    broken = RANKERS["dual_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="document d0: its vector is not finite"):
        encode(broken, toy.docs, tmp_path, encoding_of(broken, toy.docs, tmp_path))
