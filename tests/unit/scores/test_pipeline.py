"""Scoring in this process: which pairs, in which shards, with which errors. Clusters are tested elsewhere."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import stillhouse
from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.rankers.processor import multiplies_bfloat16
from stillhouse.scores.attempts import Attempts
from stillhouse.scores.identity import identity_of, resolve_dtype
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.manage import verify
from stillhouse.scores.pipeline import ScoreReport, score_pairs
from stillhouse.scores.plan import Plan, make_plan, pairs_per_shard
from stillhouse.scores.store import ScoreStore

SCHEMA = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32())])


def pairs_of(rows: list[tuple[int, int]]) -> pa.Table:
    return pa.table([[query for query, _ in rows], [doc for _, doc in rows]], schema=SCHEMA)


GRID = pairs_of([(query, doc) for query in range(12) for doc in range(10)])


@pytest.fixture(scope="module")
def teacher(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    RANKERS["cross_encoder"].from_backbone(
        str(backbone), seed=1, query_max_length=8, doc_max_length=16
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ranker(teacher: Path) -> Ranker:
    return load_ranker(teacher)


def score(
    store: ScoreStore, teacher: Path, toy: Collection, pairs: pa.Table = GRID, *, shard_size: int = 16
) -> ScoreReport:
    return score_pairs(store, teacher, toy, "train", pairs, dtype="float32", num_actors=0, shard_size=shard_size)


def test_scores_are_the_ranker_s(tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection) -> None:
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"), 3)
    report = score(store, teacher, toy)
    assert (report.scored, report.reused, len(store)) == (120, 0, 120)
    queries = toy.splits["train"].queries
    for row in range(12):
        expected = ranker.score([queries.text(row)], [toy.docs.texts(range(10))])[0].numpy()
        found = store.lookup([queries.hashes[row]] * 10, toy.docs.hashes[:10])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    (job,) = read_jobs(store.path)
    assert (job["state"], job["scored"], job["collection"]) == ("finished", 120, toy.digest)


def test_only_what_is_new_is_scored_whatever_the_rows_say(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection
) -> None:
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"), 3)
    some = pairs_of([(0, 1), (0, 2), (5, 1), (0, 2), (0, 1)])
    assert score(store, teacher, toy, some).scored == 3
    report = score(store, teacher, toy)
    assert (report.scored, report.reused) == (117, 3)
    assert (score(store, teacher, toy, some).scored, len(read_jobs(store.path))) == (0, 2)


def test_the_digest_does_not_depend_on_the_order_of_the_pairs(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection
) -> None:
    stores = [ScoreStore(tmp_path / name, identity_of(ranker, "float32"), 3) for name in ("one", "other")]
    score(stores[0], teacher, toy)
    score(stores[1], teacher, toy, GRID.take(pa.array(np.random.default_rng(0).permutation(len(GRID)))))
    assert stores[0].digest() == stores[1].digest()


def test_a_job_that_stopped_leaves_the_same_shards_to_do(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection
) -> None:
    """Also where a part of a shard's pairs stood in the store before: the batches are the same again."""
    store, whole = (
        ScoreStore(tmp_path, identity_of(ranker, "float32"), 3),
        ScoreStore(tmp_path / "w", identity_of(ranker, "float32"), 3),
    )
    some = pairs_of([(query, 4) for query in range(12)])
    for each in (store, whole):
        score(each, teacher, toy, some)
    planned = plan(store, toy)
    score(whole, teacher, toy)

    def stop(done: int, total: int, info: object) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_pairs(store, teacher, toy, "train", GRID, dtype="float32", num_actors=0, shard_size=16, progress=stop)
    left = plan(store, toy)
    assert 0 < left.missing < planned.missing
    names = [shard.generation for shard in planned.shards]
    assert [shard.generation for shard in left.shards] == names[len(names) - len(left.shards) :]
    assert read_jobs(store.path)[-1]["state"] == "failed"
    assert score(store, teacher, toy).scored == left.missing
    assert store.digest() == whole.digest()


def plan(store: ScoreStore, toy: Collection, pairs: pa.Table = GRID, shard_size: int = 16) -> Plan:
    return make_plan(store, toy.splits["train"].queries, toy.docs, pairs, shard_size)


def test_shards_are_even_within_their_limit_and_hold_every_pair_once(tmp_path: Path, toy: Collection) -> None:
    store = ScoreStore(tmp_path, {"ranker": "none"}, 3)
    found = plan(store, toy, pa.concat_tables([GRID, GRID]), 16)
    assert found.total == found.missing == 120
    rows = [(q, d) for shard in found.shards for q, d in zip(shard.query_rows, shard.doc_rows, strict=True)]
    assert sorted(rows) == sorted(zip(*(GRID[name].to_pylist() for name in SCHEMA.names), strict=True))
    for partition in range(3):
        sizes = [len(shard.doc_rows) for shard in found.shards if shard.partition == partition]
        assert max(sizes) <= 16
        assert max(sizes) - min(sizes) <= 1


def test_a_shard_is_half_a_minute_of_work(ranker: Ranker) -> None:
    # Two blocks: attention 4 * 32 * 33, inner layers 2 * 64 * 32 + 64 + 32, norms 4 * 32. Half of 8 + 16 tokens: 12.
    weights = 2 * (4 * 32 * 33 + 2 * 64 * 32 + 64 + 32 + 4 * 32)
    assert sum(p.numel() for block in ranker.blocks() for p in block.parameters()) == weights
    assert pairs_per_shard(ranker, "cpu") == 2048 < 3e12 / (2 * weights * 12)
    assert pairs_per_shard(ranker, "cuda") == 32768


def test_a_damaged_file_is_set_aside_and_scored_again_with_the_same_bits(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection
) -> None:
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"), 3)
    score(store, teacher, toy)
    digest = store.digest()
    path = store.files()[2]
    rows = pa.parquet.read_metadata(path).num_rows
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=r"scores verify"):
        ScoreStore.open(store.path).digest()
    report = score(ScoreStore.open(store.path), teacher, toy)
    name = path.relative_to(store.path).as_posix()
    assert (report.scored, report.set_aside) == (rows, (name,))
    assert read_jobs(store.path)[-1]["set_aside"] == [name]
    assert verify(store).ok
    assert score(store, teacher, toy).set_aside == ()
    assert ScoreStore.open(store.path).digest() == digest


def test_a_score_that_is_not_finite_stops_its_shard_only_and_names_the_pair(
    tmp_path: Path, backbone: Path, toy: Collection
) -> None:
    ranker = RANKERS["cross_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16)
    # The last word of document 7 gets an embedding of NaN; what holds that word has no score.
    (token,) = ranker.tokenise([toy.docs.text(7).split()[-1]])[0]
    with torch.no_grad():
        ranker.backbone.get_input_embeddings().weight[token] = float("nan")
    ranker.save_pretrained(tmp_path / "teacher")
    word = toy.docs.text(7).split()[-1]
    queries = toy.splits["train"].queries
    clean = [
        (q, d) for q in range(12) for d in range(10) if word not in queries.text(q) + " " + toy.docs.text(d)
    ]  # fmt: skip
    query = next(q for q, _ in clean)
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"), 3)
    expected = (
        f"1 of its shards not scored.*query {queries.ids[query]}, document {toy.docs.ids[7]}: the teacher gives nan"
    )
    with pytest.raises(StoreError, match=expected):
        score(store, tmp_path / "teacher", toy, pairs_of([*clean, (query, 7)]), shard_size=8)
    assert len(clean) - 8 < len(store) <= len(clean)
    assert np.isfinite(np.concatenate([store.partition(number)[1] for number in range(3)])).all()


def test_a_shard_that_had_its_tries_is_named_and_the_rest_is_scored(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"), 3)
    bad = plan(store, toy).shards[1].generation
    begin = Attempts.begin

    def had_two(self: Attempts, generation: str) -> bool:
        if generation == bad:  # as two dead actors leave it
            begin(self, generation)
            begin(self, generation)
        return begin(self, generation)

    monkeypatch.setattr(Attempts, "begin", had_two)
    with pytest.raises(StoreError, match=rf"gen={bad} .* ended its actor 2 times and is set aside"):
        score_pairs(store, teacher, toy, "train", GRID, dtype="float32", num_actors=0, shard_size=16, max_tries=2)
    monkeypatch.undo()
    left = 120 - len(store)
    assert 0 < left <= 16
    assert score(store, teacher, toy).scored == left


def test_another_teacher_s_store_is_refused(tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection) -> None:
    with pytest.raises(StoreError, match="belongs to another teacher"):
        score(ScoreStore(tmp_path, identity_of(ranker, "float32") | {"weights": "0"}), teacher, toy)
    with pytest.raises(StoreError, match="belongs to another teacher"):
        score(ScoreStore(tmp_path, identity_of(ranker, "bfloat16")), teacher, toy)


def test_rows_that_are_no_rows_are_refused(tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection) -> None:
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"))
    with pytest.raises(StoreError, match="doc_row goes from 3 to 60, but there are 60 texts"):
        score(store, teacher, toy, pairs_of([(0, 3), (0, 60)]))
    with pytest.raises(StoreError, match="query_row goes from -1 to 0"):
        score(store, teacher, toy, pairs_of([(0, 3), (-1, 6)]))
    assert score(store, teacher, toy, pairs_of([])).scored == 0


def test_no_cluster_is_a_store_error() -> None:
    # In a process of its own: this one may be connected by a test that came before.
    code = "from stillhouse.scores.placement import scoring_device; scoring_device()"
    environment = os.environ | {"PYTHONPATH": str(Path(stillhouse.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "StoreError: scoring: no Ray cluster is connected; call ray.init" in done.stderr


def test_identity_is_what_decides_the_scores(ranker: Ranker, backbone: Path, tmp_path: Path) -> None:
    identity = identity_of(ranker, "float32")
    options = {"seed": 1, "query_max_length": 8, "doc_max_length": 16}
    again = RANKERS["cross_encoder"].from_backbone(str(backbone), **options, dropout=0.3, gradient_checkpointing=True)
    assert identity_of(again, "float32") == identity
    assert identity["dtype"] == "float32"
    assert identity["options"]["doc_max_length"] == 16
    others = [
        identity_of(ranker, "bfloat16"),
        identity_of(ranker, "float32", "cuda"),
        identity_of(RANKERS["cross_encoder"].from_backbone(str(backbone), **options | {"seed": 2}), "float32"),
        identity_of(
            RANKERS["cross_encoder"].from_backbone(str(backbone), **options | {"doc_max_length": 15}), "float32"
        ),
        identity_of(
            RANKERS["dual_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16), "float32"
        ),
    ]
    keys = {ScoreStore(tmp_path, each).key for each in [identity, *others]}
    assert len(keys) == 6
    native = "bfloat16" if multiplies_bfloat16() else "float32"
    assert [resolve_dtype("auto", "cpu"), resolve_dtype("auto", "cuda")] == [native, "bfloat16"]
    assert [resolve_dtype(name, "cpu") for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_a_full_disk_stops_the_job_and_the_same_command_goes_on(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection
) -> None:
    """The kernel refuses files above a size: the last shards of a growing size do not fit."""
    store, whole = (
        ScoreStore(tmp_path, identity_of(ranker, "float32"), 1),
        ScoreStore(tmp_path / "w", identity_of(ranker, "float32"), 1),
    )
    score(whole, teacher, toy, shard_size=40)
    size = max(path.stat().st_size for path in whole.files())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, before[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written: File too large; make room.*same command again"):
            score(store, teacher, toy, shard_size=40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(store.path.glob("part=*/.*"))
    left = 120 - len(store)
    assert left >= 40
    assert score(store, teacher, toy, shard_size=40).scored == left
    assert store.digest() == whole.digest()


def test_a_full_disk_names_the_store_where_the_kernel_names_no_file(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can be opened and not written; here the one that counts a shard's tries, of a few bytes."""
    begin = Attempts.begin
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def without_room(self: Attempts, generation: str) -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
        try:
            return begin(self, generation)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(Attempts, "begin", without_room)
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"))
    with pytest.raises(StoreError) as caught:
        score(store, teacher, toy)
    assert str(caught.value).startswith(f"{store.path}: File too large; make room")


def test_a_failure_of_the_teacher_is_one_line(
    tmp_path: Path, teacher: Path, ranker: Ranker, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(ranker), "score_tokens", out_of_memory)
    store = ScoreStore(tmp_path, identity_of(ranker, "float32"))
    with pytest.raises(StoreError, match=r"^RuntimeError: out of memory$"):
        score(store, teacher, toy)
    assert read_jobs(store.path)[0]["state"] == "failed"
