"""Scoring on a real cluster with real processes killed: whatever dies, every pair stands once, with the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

from stillhouse.collection import Collection, materialise, open_collection
from stillhouse.errors import StoreError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.scores.generation import add_missing
from stillhouse.scores.identity import identity_of
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.manage import verify
from stillhouse.scores.pipeline import ScoreReport, score_pairs
from stillhouse.scores.placement import Placement, place
from stillhouse.scores.store import ScoreStore

NUM_QUERIES, NUM_DOCS, DEPTH = 40, 300, 30
PAIRS_PER_SHARD = 20
IN_FLIGHT = 4 * PAIRS_PER_SHARD
"""Two actors, each with one shard under way and one waiting."""
WORDS = [f"w{number}" for number in range(150)]


@dataclass(frozen=True)
class World:
    """A collection, a teacher and the pairs to score."""

    collection: Collection
    ranker_path: Path
    ranker: Ranker
    pairs: pa.Table

    def store(self, root: Path) -> ScoreStore:
        return ScoreStore(root, identity_of(self.ranker), partitions=4)

    def score(self, store: ScoreStore, pairs: pa.Table | None = None, **options: Any) -> ScoreReport:
        pairs = self.pairs if pairs is None else pairs
        options = {"shard_size": PAIRS_PER_SHARD} | options
        return score_pairs(store, self.ranker_path, self.collection, "train", pairs, **options)


def test_scores_are_the_ranker_s_and_progress_reaches_the_end(
    world: World, whole: tuple[ScoreStore, ScoreReport]
) -> None:
    store, report = whole
    assert (report.scored, report.reused) == (NUM_QUERIES * DEPTH, 0)
    docs, queries = world.collection.docs, world.collection.splits["train"].queries
    table = pa.concat_tables([store.table(number) for number in range(store.partitions)]).to_pylist()
    assert len(table) == NUM_QUERIES * DEPTH
    by_pair = {(row["query_id"], row["doc_id"]): row for row in table}
    for query_row in (0, 17, NUM_QUERIES - 1):
        doc_rows = [d for q, d in _rows(world.pairs) if q == query_row]
        expected = world.ranker.score([queries.text(query_row)], [docs.texts(doc_rows)])[0]
        rows = [by_pair[queries.ids[query_row], docs.ids[doc_row]] for doc_row in doc_rows]
        np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=1e-4, atol=1e-6)
        # One word is one token; the caps are 8 and 24.
        lengths = [len(docs.text(row).split()) for row in doc_rows]
        query_length = len(queries.text(query_row).split())
        assert [row["num_tokens"] for row in rows] == [query_length + min(length, 24) for length in lengths]
        assert [row["truncated"] for row in rows] == [length > 24 for length in lengths]
    assert report.truncated_share == sum(row["truncated"] for row in table) / len(table)


def test_nothing_missing_starts_nothing_and_takes_no_time(world: World, whole: tuple[ScoreStore, ScoreReport]) -> None:
    store, _ = whole
    jobs = len(read_jobs(store.path))
    report = world.score(store)
    assert (report.scored, report.reused) == (0, NUM_QUERIES * DEPTH)
    assert report.seconds < 1
    assert len(read_jobs(store.path)) == jobs


def test_actors_never_take_the_last_cpu(cluster: None) -> None:
    assert place(None, 100) == Placement(actors=2, num_cpus=0.5, num_gpus=0, threads=1)
    assert place(None, 1) == Placement(actors=1, num_cpus=1, num_gpus=0, threads=1)
    assert place(1, 100) == Placement(actors=1, num_cpus=1, num_gpus=0, threads=2)
    assert place(8, 100) == Placement(actors=8, num_cpus=0.125, num_gpus=0, threads=1)


def test_more_depth_scores_only_what_is_new_and_other_cuts_change_the_last_bits_at_most(
    world: World, whole: tuple[ScoreStore, ScoreReport], tmp_path: Path
) -> None:
    store = world.store(tmp_path)
    store.create()
    shallow = {(f"train{q}", f"d{d}") for q, d in _rows(world.pairs)[::3]}
    for number in range(store.partitions):
        rows = whole[0].table(number)
        kept = [pair in shallow for pair in zip(rows["query_id"].to_pylist(), rows["doc_id"].to_pylist(), strict=True)]
        add_missing(store, rows.filter(pa.array(kept)))
    twice = pa.concat_tables([world.pairs, world.pairs])
    seen: list[tuple[int, int]] = []
    report = world.score(store, twice, shard_size=200, progress=lambda done, total, info: seen.append((done, total)))
    assert (report.scored, report.reused) == (NUM_QUERIES * 20, NUM_QUERIES * 10)
    assert seen == sorted(seen)
    assert seen[0] == (NUM_QUERIES * 10, NUM_QUERIES * DEPTH)
    assert seen[-1] == (NUM_QUERIES * DEPTH, NUM_QUERIES * DEPTH)
    assert len(store) == NUM_QUERIES * DEPTH == sum(store_rows(store))
    for number in range(store.partitions):
        keys, scores = store.partition(number)
        np.testing.assert_allclose(scores, whole[0].lookup_keys(keys), rtol=1e-4, atol=1e-6)


def test_a_killed_actor_loses_nothing(world: World, whole: tuple[ScoreStore, ScoreReport], tmp_path: Path) -> None:
    store = world.store(tmp_path)
    killed: list[int] = []

    def kill_first(done: int, total: int, info: dict[str, Any]) -> None:
        if not killed and 0 < done < total / 2:
            killed.append(int(next(iter(info["actors"])).split(":")[1]))
            os.kill(killed[0], signal.SIGKILL)

    report = world.score(store, progress=kill_first)
    assert killed
    assert report.scored + report.reused == NUM_QUERIES * DEPTH == len(store)
    assert store.digest() == whole[0].digest()


def test_a_killed_driver_and_two_writers_leave_every_pair_once(
    world: World, whole: tuple[ScoreStore, ScoreReport], tmp_path: Path
) -> None:
    """The first driver is killed half way; then two run the same command at once."""
    store = world.store(tmp_path)
    first = _driver(world, tmp_path)
    _wait(lambda: len(store.files()) >= 12)
    first.kill()
    first.wait()
    kept = sum(store_rows(store))
    assert 12 * PAIRS_PER_SHARD / 2 <= kept < NUM_QUERIES * DEPTH
    second = _driver(world, tmp_path)
    report = world.score(store)
    assert second.wait(timeout=180) == 0
    assert sorted(job["state"] for job in read_jobs(store.path)) == ["finished", "finished", "running"]
    assert len(store) == NUM_QUERIES * DEPTH == sum(store_rows(store))
    assert store.digest() == whole[0].digest()
    finished = [job for job in read_jobs(store.path) if job["state"] == "finished"]
    work = sum(job["scored"] - job["duplicated"] for job in finished)
    # The killed job's actors may end what they hold; the two writers may miss that they wrote a shard at once.
    assert abs(work - (NUM_QUERIES * DEPTH - kept)) <= IN_FLIGHT
    assert report.scored + report.reused == NUM_QUERIES * DEPTH
    assert verify(store).ok


def test_a_shard_that_always_kills_its_actor_is_set_aside_and_named(world: World, tmp_path: Path) -> None:
    store = world.store(tmp_path)
    store.create()
    watcher = _Killer(store.path)
    with watcher, pytest.raises(StoreError, match=r"1 of its shards not scored.*ended its actor 2 times") as caught:
        world.score(store, shard_size=300, max_tries=2)
    assert len(watcher.killed) == 2
    assert watcher.target in str(caught.value)
    assert 0 < NUM_QUERIES * DEPTH - len(store) <= 300


class _Killer:
    """Kills the process that begins a shard, every time it is the shard it killed first."""

    def __init__(self, store_path: Path) -> None:
        self.folder = store_path / "attempts"
        self.target = ""
        self.killed: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for path in self.folder.glob(f"*/{self.target or '*'}.*"):
                worker = path.read_text() if path.exists() else ""
                if worker and int(worker.split(":")[1]) not in self.killed:
                    self.target = path.stem
                    self.killed.append(int(worker.split(":")[1]))
                    os.kill(self.killed[-1], signal.SIGKILL)
                    break
            time.sleep(0.001)


def store_rows(store: ScoreStore) -> list[int]:
    return [pa.parquet.read_metadata(path).num_rows for path in store.files()]


def _driver(world: World, root: Path) -> subprocess.Popen[bytes]:
    """The same job in a process of its own, on the same cluster."""
    arguments = {
        "root": str(root),
        "ranker": str(world.ranker_path),
        "collection": str(world.collection.path),
        "address": ray.get_runtime_context().gcs_address,
        "shard": PAIRS_PER_SHARD,
    }
    return subprocess.Popen([sys.executable, __file__, json.dumps(arguments)])


def _run_driver(arguments: dict[str, Any]) -> None:
    import logging

    ray.init(address=arguments["address"], logging_level=logging.ERROR, log_to_driver=False)
    ranker = load_ranker(arguments["ranker"])
    collection = open_collection(Path(arguments["collection"]))
    store = ScoreStore(Path(arguments["root"]), identity_of(ranker), partitions=4)
    pairs = _pairs()
    score_pairs(store, arguments["ranker"], collection, "train", pairs, shard_size=arguments["shard"], num_actors=2)


def _wait(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _pairs() -> pa.Table:
    """DEPTH different documents for each query."""
    rows = [(q, (7 * q + 3 * j) % NUM_DOCS) for q in range(NUM_QUERIES) for j in range(DEPTH)]
    schema = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32())])
    return pa.table([[q for q, _ in rows], [d for _, d in rows]], schema=schema)


def _rows(pairs: pa.Table) -> list[tuple[int, int]]:
    return list(zip(pairs["query_row"].to_pylist(), pairs["doc_row"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    ranker = RANKERS["cross_encoder"].from_backbone(
        str(_backbone(root / "backbone")), seed=3, query_max_length=8, doc_max_length=24
    )
    ranker.save_pretrained(root / "teacher")
    return World(_collection(root), root / "teacher", load_ranker(root / "teacher"), _pairs())


@pytest.fixture(scope="module")
def whole(cluster: None, world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoreStore, ScoreReport]:
    """The store of a job that nothing disturbed."""
    store = world.store(tmp_path_factory.mktemp("whole"))
    return store, world.score(store)


def _backbone(folder: Path) -> Path:
    set_seed(5)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = BertTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], specials, strict=True)),
    )
    config = BertConfig(
        vocab_size=len(specials) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _collection(root: Path) -> Collection:
    draw = random.Random(11)
    folder = root / "folder"
    folder.mkdir()

    def text(shortest: int, longest: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(shortest, longest)))

    docs = [{"doc_id": f"d{number}", "text": text(5, 40)} for number in range(NUM_DOCS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for split in ("train", "dev", "test"):
        queries = [{"query_id": f"{split}{number}", "text": text(2, 8)} for number in range(NUM_QUERIES)]
        (folder / f"queries.{split}.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
        qrels = "".join(f"{split}{number} 0 d{7 * number % NUM_DOCS} 1\n" for number in range(NUM_QUERIES))
        (folder / f"qrels.{split}.tsv").write_text(qrels)
    refs = {split: f"{folder}/{split}" for split in ("train", "dev", "test")}
    return materialise(CollectionSpec(**refs), 0, root)


if __name__ == "__main__":
    _run_driver(json.loads(sys.argv[1]))
