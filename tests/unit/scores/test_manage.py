"""Stores in people's hands: damage is found and mended, copies add up, waste goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillhouse.errors import StoreError
from stillhouse.scores.attempts import Attempts, process_name
from stillhouse.scores.journal import Journal, read_jobs
from stillhouse.scores.manage import find_store, gc, list_stores, merge, show, verify
from stillhouse.scores.store import ScoreStore

Make = Callable[..., Any]
PAIRS = [(f"q{i}", f"d{j}", i * 10.0 + j) for i in range(8) for j in range(3)]


def test_a_whole_store_verifies(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, PAIRS)
    found = verify(store)
    assert found.ok
    assert (found.pairs, found.files) == (24, len(store.files()))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_file_is_set_aside_and_its_pairs_are_missing(
    tmp_path: Path, filled: Make, look: Make, damage: str
) -> None:
    store = filled(tmp_path, PAIRS)
    path = store.files()[0]
    lost = [(row["query_id"], row["doc_id"]) for row in store.table(int(path.parent.name[5:])).to_pylist()]
    content = path.read_bytes()
    flipped = bytes([content[100] ^ 4])
    path.write_bytes({"flip": content[:100] + flipped + content[101:], "truncate": content[:-9], "empty": b""}[damage])
    found = verify(store)
    assert not found.ok
    assert found.corrupt == [path.relative_to(store.path).as_posix()]
    assert path.with_name(path.name + ".corrupt").exists()
    assert np.isnan(look(store, lost)).all()
    assert not np.isnan(look(store, [(q, d) for q, d, _ in PAIRS if (q, d) not in lost])).any()
    assert verify(store).ok


def test_a_missing_manifest_is_found_and_written_again(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, PAIRS)
    before = (store.path / "manifest.json").read_bytes()
    (store.path / "manifest.json").unlink()
    assert verify(store).manifest_rebuilt
    assert (store.path / "manifest.json").read_bytes() == before


def test_a_file_that_is_gone_is_named(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, PAIRS)
    path = store.files()[1]
    path.unlink()
    assert verify(store).gone == [path.relative_to(store.path).as_posix()]
    assert verify(store).ok


def test_merge_adds_what_is_missing_and_keeps_what_is_there(tmp_path: Path, filled: Make) -> None:
    whole = filled(tmp_path / "whole", PAIRS)
    left = filled(tmp_path / "left", PAIRS[:15], partitions=4)
    right = filled(tmp_path / "right", PAIRS[10:], partitions=7)
    assert merge(right, left) == 9
    assert left.digest() == whole.digest()
    assert merge(right, left) == 0
    assert sum(facts["rows"] for facts in left.manifest()["files"].values()) == 24


def test_merge_refuses_another_teacher(tmp_path: Path, filled: Make) -> None:
    other = filled(tmp_path, PAIRS, identity={"ranker": "other"})
    with pytest.raises(StoreError, match="two teachers"):
        merge(other, filled(tmp_path, PAIRS))


def test_gc_makes_one_file_of_many_and_of_doubles_and_keeps_the_digest(tmp_path: Path, filled: Make) -> None:
    for number, pair in enumerate(PAIRS):
        filled(tmp_path, [pair], partitions=1, generation=f"{number:02d}")
    store = filled(tmp_path, [("q0", "d0", 99.0)], partitions=1, generation="zz")
    before = store.digest()
    assert len(store.files()) == 25
    assert gc(store).compacted == 1
    assert len(store.files()) == 1
    assert store.digest() == before == filled(tmp_path / "plain", PAIRS).digest()
    assert gc(store).compacted == 0


def test_gc_removes_what_killed_jobs_left_but_nothing_fresh(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, PAIRS)
    folder = store.files()[0].parent
    names = [".gen=a-0.parquet.1.x.tmp", ".gen=b-0.parquet.2.x.tmp"]
    for name in names:
        (folder / name).write_bytes(b"half")
    tries = Attempts(store.path, "job", 3)
    tries.begin("a")
    (folder / "gen=c-0.parquet.corrupt").write_bytes(b"bad")
    hour_ago = time.time() - 3700
    os.utime(folder / names[0], (hour_ago, hour_ago))
    os.utime(tries.folder, (hour_ago, hour_ago))
    digest = store.digest()
    found = gc(store)
    assert (found.temporary, found.corrupt, found.bytes) == (1, 1, len("half" + "bad" + process_name()))
    assert not tries.folder.exists()
    assert (folder / names[1]).exists()
    assert store.digest() == digest


def test_list_find_and_show(tmp_path: Path, filled: Make) -> None:
    first = filled(tmp_path, PAIRS)
    second = filled(tmp_path, PAIRS[:2], identity={"ranker": "file", "name": "bm25.run", "scale": "order"})
    journal = Journal(first.path, {"collection": "c"})
    journal.end("finished", {"scored": 24, "truncated": 6, "actor_seconds": 7200.0})
    summaries = {summary.key: summary for summary in list_stores(tmp_path)}
    assert {(s.teacher, s.pairs, s.scale) for s in summaries.values()} == {
        ("test", 24, "logit"),
        ("bm25.run", 2, "order"),
    }
    assert find_store(tmp_path, second.key[:8]).key == second.key
    with pytest.raises(StoreError, match=first.key):
        find_store(tmp_path, "nothing")
    with pytest.raises(StoreError, match="2 stores"):
        find_store(tmp_path, "")
    shown = show(first)
    assert (shown["pairs"], shown["actor_hours"], shown["truncated"]) == (24, 2.0, 6)
    assert shown["jobs"][0]["versions"]["numpy"] == np.__version__


def test_a_job_that_was_killed_still_says_running(tmp_path: Path) -> None:
    Journal(tmp_path, {"pairs": 3}).update({"scored": 1})
    (job,) = read_jobs(tmp_path)
    assert (job["state"], job["pairs"]) == ("running", 3)


def test_attempts_are_counted_per_job_and_forgotten_when_a_shard_is_finished(tmp_path: Path) -> None:
    tries = Attempts(tmp_path, "one", 3)
    assert [tries.begin("a") for _ in range(5)] == [True, True, True, False, False]
    assert tries.begin("b")
    assert Attempts(tmp_path, "two", 3).begin("a")
    tries.end("a")
    assert tries.begin("a")
    tries.remove()
    assert not tries.folder.exists()


def test_a_key_file_of_another_store_is_refused(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, PAIRS)
    moved = store.path.rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="belongs to store"):
        ScoreStore.open(moved)
