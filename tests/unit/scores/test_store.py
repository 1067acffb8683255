"""The store by itself: what is written is found, once, by the right pair."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.artifacts import stable_hash, text_hash
from stillhouse.errors import StoreError
from stillhouse.scores.keys import pair_keys, partition_of, positions
from stillhouse.scores.store import ScoreStore

IDENTITY = {"ranker": "test", "weights": "0", "scale": "logit"}
Make = Callable[..., Any]


def test_what_was_written_is_found_and_the_rest_is_nan(tmp_path: Path, filled: Make, look: Make) -> None:
    store = filled(tmp_path, [(f"q{i}", f"d{j}", i + j / 8) for i in range(9) for j in range(5)])
    wanted = [("q3", "d4"), ("q3", "d9"), ("q8", "d0"), ("d0", "q8"), ("q3", "d4")]
    np.testing.assert_array_equal(look(store, wanted), [3.5, np.nan, 8.0, np.nan, 3.5])
    assert len(store) == 45


def test_key_is_the_hash_of_the_identity_and_the_folder_says_who(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, [("q", "d", 1.0)])
    assert store.path == tmp_path / stable_hash(IDENTITY)
    facts = json.loads((store.path / "key.json").read_text())
    assert facts == {"identity": IDENTITY, "scale": "logit", "partitions": 4}
    assert ScoreStore.open(store.path).identity == IDENTITY


def test_a_store_keeps_its_partitions_whatever_is_asked_later(tmp_path: Path, filled: Make, look: Make) -> None:
    filled(tmp_path, [("q", "d", 1.5)], partitions=4)
    again = ScoreStore(tmp_path, IDENTITY, partitions=64)
    again.create()
    assert again.partitions == 4
    assert look(again, [("q", "d")]) == [1.5]


def test_digest_is_over_sorted_hashes_and_score_bits(tmp_path: Path, filled: Make) -> None:
    pairs = [(f"q{i}", f"d{j}", i - j / 3) for i in range(4) for j in range(4)]
    expected = hashlib.sha256()
    for query, doc, score in sorted((text_hash(q), text_hash(d), s) for q, d, s in pairs):
        expected.update(query.encode() + doc.encode() + struct.pack("<f", score))
    assert filled(tmp_path / "one", pairs, partitions=1).digest() == expected.hexdigest()
    assert filled(tmp_path / "many", pairs[::-1], partitions=16).digest() == expected.hexdigest()
    pairs[0] = ("q0", "d0", np.nextafter(np.float32(0), np.float32(1)).item())
    assert filled(tmp_path / "other", pairs, partitions=1).digest() != expected.hexdigest()


def test_a_pair_written_twice_stands_once_with_the_first_file_s_score(tmp_path: Path, filled: Make, look: Make) -> None:
    store = filled(tmp_path, [("q", "d", 2.0), ("q", "e", 3.0)], partitions=1, generation="bbbb")
    filled(tmp_path, [("q", "d", 1.0)], partitions=1, generation="aaaa")
    assert len(store.files()) == 2
    assert look(store, [("q", "d"), ("q", "e")]) == [1.0, 3.0]
    assert len(store) == 2
    assert sorted(store.table(0)["doc_id"].to_pylist()) == ["d", "e"]


def test_two_writers_of_the_same_shard_leave_one_file(tmp_path: Path, filled: Make) -> None:
    first = filled(tmp_path, [("q", "d", 2.0)])
    filled(tmp_path, [("q", "d", 2.0)])
    assert len(first.files()) == 1


def test_a_flipped_byte_is_an_error_that_names_the_file(tmp_path: Path, filled: Make, look: Make) -> None:
    store = filled(tmp_path, [("q", "d", 2.0)])
    path = store.files()[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{path.name}.*verify"):
        look(store, [("q", "d")])


def test_manifest_records_rows_bytes_and_sha256_of_every_file(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, [(f"q{i}", "d", 1.0) for i in range(20)])
    manifest = store.manifest()
    assert manifest["rows"] == 20
    assert len(manifest["files"]) == len(store.files()) > 1
    for name, facts in manifest["files"].items():
        content = (store.path / name).read_bytes()
        assert facts["bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


def test_scale_partitions_and_hashes_are_checked(tmp_path: Path, filled: Make) -> None:
    with pytest.raises(StoreError, match="scale 'celsius'"):
        ScoreStore(tmp_path, {"scale": "celsius"})
    with pytest.raises(StoreError, match="0 partitions"):
        ScoreStore(tmp_path, IDENTITY, 0)
    store = filled(tmp_path, [("q", "d", 2.0)])
    with pytest.raises(StoreError, match="32 hex digits"):
        store.lookup(["abc"], [text_hash("d")])
    with pytest.raises(StoreError, match="2 query hashes and 1 document"):
        store.lookup([text_hash("q")] * 2, [text_hash("d")])
    with pytest.raises(StoreError, match=r"no key\.json"):
        ScoreStore.open(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path, rows: Make) -> None:
    store = ScoreStore(tmp_path, IDENTITY, 1)
    store.create()
    (store.path / "part=000").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"cannot be written: .*same command again"):
        store.write(0, "a", rows([("q", "d", 1.0)]))


def test_slices_and_chunks_of_arrow_columns_are_read_right(tmp_path: Path) -> None:
    hashes = pa.array([text_hash(str(i)) for i in range(10)])
    keys = pair_keys(hashes.slice(3, 4), pa.chunked_array([hashes.slice(0, 2), hashes.slice(8, 2)]))
    expected = [text_hash(str(q)) + text_hash(str(d)) for q, d in zip([3, 4, 5, 6], [0, 1, 8, 9], strict=True)]
    assert [key.decode() for key in keys] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_positions_agree_with_a_dict(wanted: list[int], stored: set[int]) -> None:
    def keys(numbers: list[int]) -> np.ndarray:
        return pair_keys([text_hash(f"q{i % 7}") for i in numbers], [text_hash(f"d{i}") for i in numbers])

    sorted_keys = np.sort(keys(sorted(stored)))
    place = {key: number for number, key in enumerate(sorted_keys.tolist())}
    assert positions(keys(wanted), sorted_keys).tolist() == [place.get(key, -1) for key in keys(wanted).tolist()]


@given(st.integers(1, 999), st.text())
def test_partition_is_the_range_of_the_query_hash(partitions: int, query: str) -> None:
    key = pair_keys([text_hash(query)], [text_hash("d")])
    assert partition_of(key, partitions).tolist() == [int(text_hash(query)[:8], 16) * partitions // 2**32]


def test_no_pairs_at_all(tmp_path: Path, filled: Make) -> None:
    store = filled(tmp_path, [("q", "d", 1.0)])
    assert store.lookup([], []).shape == (0,)
    assert ScoreStore(tmp_path / "empty", IDENTITY).digest() == hashlib.sha256().hexdigest()
