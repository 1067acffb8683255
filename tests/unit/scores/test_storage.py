"""A store in S3 (a real server) and in any file system of fsspec does what a store in a folder does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from pyarrow import fs

from stillhouse.cluster import relative_paths
from stillhouse.collection import Collection
from stillhouse.errors import StoreError
from stillhouse.recipe import load_recipe
from stillhouse.scores import remote
from stillhouse.scores.attempts import Attempts
from stillhouse.scores.exchange import export_tsv, import_scores
from stillhouse.scores.files import address_of, place_of
from stillhouse.scores.journal import Journal, read_jobs
from stillhouse.scores.manage import find_store, gc, list_stores, merge, show, verify
from stillhouse.scores.remote import RemotePath, Storage, open_remote
from stillhouse.scores.store import ScoreStore
from tests.contracts.s3_server import KEY, SECRET, S3Server

Make = Callable[..., Any]
PAIRS = [(f"q{i}", f"d{j}", i * 10.0 + j) for i in range(8) for j in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server().start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(params=["s3", "memory", "other"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str | RemotePath:
    """An empty place in S3; in fsspec's memory; in a file system that is not known to write objects whole."""
    name = tmp_path.name.replace("_", "-").lower()
    if request.param == "s3":
        return f"{request.getfixturevalue('server').bucket('b' + name[-40:].strip('-'))}/some/scores"
    if request.param == "memory":
        return f"memory://{name}/scores"
    local = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("file")))
    return RemotePath(Storage(local, "other://", "", patience_s=0), str(tmp_path / "scores"))


def test_a_store_reads_back_with_the_digest_of_a_local_one(root: str, filled: Make, look: Make, tmp_path: Path) -> None:
    store = filled(root, PAIRS)
    assert look(store, [("q3", "d2"), ("q3", "d9")])[0] == 32.0
    again = ScoreStore.open(store.path)
    assert len(again) == len(PAIRS)
    assert again.digest() == filled(tmp_path / "local", PAIRS).digest()
    assert verify(store).ok
    # Equal bytes written again are the same object.
    files = store.files()
    filled(root, PAIRS)
    assert store.files() == files
    assert not [path for path in store.path.glob("part=*/*") if not path.name.startswith("gen=")]


def test_damage_is_set_aside_by_a_copy_and_named(root: str, filled: Make, look: Make) -> None:
    store = filled(root, PAIRS)
    whole, path = store.digest(), store.files()[0]
    content = bytearray(path.read_bytes())
    content[100] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=rf"{path.name}: its bytes changed.*scores verify"):
        look(ScoreStore.open(store.path), [(q, d) for q, d, _ in PAIRS])
    found = verify(store)
    name = f"{path.parent.name}/{path.name}"
    assert (found.corrupt, found.ok) == ([name], False)
    assert not path.exists()
    assert path.with_name(path.name + ".corrupt").read_bytes() == bytes(content)
    assert verify(store).ok
    assert gc(store).corrupt == 1
    assert filled(root, PAIRS).digest() == whole


def test_a_mending_store_sets_aside_what_it_meets(root: str, filled: Make, look: Make) -> None:
    store = filled(root, PAIRS)
    path = store.files()[0]
    lost = [(row["query_id"], row["doc_id"]) for row in store.table(int(path.parent.name[5:])).to_pylist()]
    path.write_bytes(path.read_bytes()[:-9])
    mending = ScoreStore.open(store.path)
    mending.mending = True
    assert np.isnan(look(mending, lost)).all()
    assert mending.set_aside == [f"{path.parent.name}/{path.name}"]
    assert len(mending) == len(PAIRS) - len(lost)


def test_the_other_verbs(root: str, filled: Make, tmp_path: Path, toy: Collection) -> None:
    store = filled(root, PAIRS[:10])
    (store.path / "manifest.json").unlink()
    assert verify(store).manifest_rebuilt
    assert merge(filled(tmp_path / "more", PAIRS[5:], partitions=3), store) == 14
    journal = Journal(store.path, {"collection": "c"})
    journal.end("finished", {"scored": 24, "actor_seconds": 3600.0})
    assert [job["state"] for job in read_jobs(store.path)] == ["finished"]
    shown = show(store)
    assert (shown["pairs"], shown["actor_hours"], shown["path"]) == (24, 1.0, str(store.path))
    assert shown["bytes"] == sum(facts["bytes"] for facts in store.manifest()["files"].values())
    (summary,) = list_stores(place_of(root))
    assert (summary.key, summary.pairs) == (store.key, 24)
    for number in range(3):
        filled(root, [("q0", f"more{number}", 1.0)], generation=f"x{number:02d}")
    digest, files = store.digest(), len(store.files())
    assert gc(store, compact_above=3).compacted == 1
    assert len(store.files()) <= files - 3
    assert find_store(place_of(root), store.key[:6]).digest() == digest
    assert export_tsv(store, tmp_path / "out.tsv") == 27
    (tmp_path / "in.tsv").write_text("q0\td0\t1.5\nq0\td1\t0.5\n")
    imported = import_scores(tmp_path / "in.tsv", root, toy)
    assert (imported.added, len(imported.store)) == (2, 2)
    assert len(list_stores(place_of(root))) == 2


def test_tries_are_counted_and_forgotten(root: str) -> None:
    tries = Attempts(place_of(root), "one", 2)
    assert [tries.begin("a") for _ in range(4)] == [True, True, False, False]
    assert tries.begin("b")
    tries.end("a")
    assert tries.begin("a")
    tries.remove()
    assert not list(tries.folder.glob("*"))


def test_one_file_is_one_request_and_no_rename(server: S3Server, filled: Make) -> None:
    store = filled(f"{server.bucket('requests')}/scores", PAIRS)
    server.requests.clear()
    filled(store.path.parent, [("new", "pair", 1.0)])
    writes = [request for request in server.requests if request.startswith(("PUT", "POST", "DELETE"))]
    # One shard, one manifest; key.json was there.
    assert [request.split()[0] for request in writes] == ["PUT", "PUT"]
    assert [request.rpartition("/")[2][:6] for request in writes] == ["gen=a-", "manife"]


def test_refusals_are_waited_for(server: S3Server, filled: Make) -> None:
    root = f"{server.bucket('slow-down')}/scores"
    store = filled(root, PAIRS)
    server.refusals = 7
    assert ScoreStore.open(store.path).digest() == store.digest()
    assert server.refusals == 0


def test_a_storage_that_is_away_is_one_line_and_works_again_later(server: S3Server, filled: Make) -> None:
    store = filled(place_of(f"{server.bucket('outage')}/scores", patience_s=0.5), PAIRS)
    expected = store.digest()
    server.stop()
    try:
        with pytest.raises(StoreError, match=r"^s3://outage/scores/.*cannot be .*run the same command") as caught:
            len(store)
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert KEY not in str(caught.value)
    finally:
        server.start()
    assert ScoreStore.open(store.path).digest() == expected


def test_a_short_outage_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_FIRST_WAIT_S", 0.01)
    answers = [OSError("AWS Error NETWORK_CONNECTION"), ConnectionResetError("reset by peer"), 5]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    assert Storage(None, "s3://", "", patience_s=5).tried("read", "bucket/a", ask) == 5


def test_errors_that_waiting_does_not_mend_come_at_once(server: S3Server, filled: Make) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/.*key\.json: cannot be written: .*NO_SUCH_BUCKET"):
        filled("s3://no-such-bucket/scores", PAIRS)
    assert time.monotonic() - started < 5


def test_what_is_no_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"s3://\.\.\.@bucket/scores: credentials stand in the URI") as caught:
        open_remote(f"s3://{KEY}:{SECRET}@bucket/scores")
    assert SECRET not in str(caught.value)
    with pytest.raises(StoreError, match=r"foo://bucket/scores: no file system opens it"):
        open_remote("foo://bucket/scores")
    assert place_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert place_of("scores") == Path("scores")


def test_an_address_opens_the_same_place_elsewhere(server: S3Server) -> None:
    plain = "s3://bucket/some/scores"
    asked = f"{plain}?endpoint_override=http%3A%2F%2F127.0.0.1%3A{server.port}&region=eu-west-1"
    for uri in (plain, asked, "memory://bucket/some/scores"):
        place = place_of(uri)
        assert address_of(place) == uri
        assert str(place) == uri.partition("?")[0]
        assert address_of(place.parent / "scores") == uri
    assert place_of(asked).storage.filesystem.region == "eu-west-1"  # type: ignore[attr-defined]
    assert os.path.isabs(address_of(place_of("scores")))


def test_a_job_on_a_cluster_may_name_an_object_store() -> None:
    paths = ["output.path=/shared/out", "store.path=s3://bucket/scores", "tracking.uri=http://head:5000"]
    assert relative_paths(load_recipe("demo", paths)) == []


def test_two_that_make_a_store_with_different_partitions_are_told(root: str, filled: Make) -> None:
    first = filled(root, PAIRS, partitions=4)
    assert first.partitions == 4
    facts = json.loads((first.path / "key.json").read_text())
    (first.path / "key.json").write_text(json.dumps(facts | {"partitions": 8}))
    with pytest.raises(StoreError, match="made it with 8 partitions while this one wrote 4"):
        first.check_partitions()
