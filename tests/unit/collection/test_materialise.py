from __future__ import annotations

import hashlib
import os
import pickle

import pytest

from stillhouse.artifacts import text_hash
from stillhouse.collection import materialise, open_collection
from stillhouse.collection.texts import HASH, hash_file
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec


def test_a_folder_is_read_as_it_stands(make_folder, spec_of, tmp_path):
    collection = materialise(spec_of(make_folder()), 0, tmp_path / "root")
    assert list(collection.docs.ids) == ["d1", "d2", "d3"]
    assert collection.docs.texts([2, 0]) == ["fish swim", "cats purr"]
    assert collection.docs.row_of["d2"] == 1
    assert collection.docs.hashes[1] == text_hash("dogs bark")
    train = collection.splits["train"]
    assert list(train.queries.ids) == ["q1", "q2"]
    assert train.qrels == {0: {0: 1}, 1: {0: 0, 1: 1}}
    assert collection.splits["dev"].qrels == {0: {2: 2}}
    assert collection.docs.ids.of([2, 0]) == ["d3", "d1"]
    assert (train.queries.ids[-1], train.queries.ids[:1]) == ("q2", ["q1"])
    assert list(train.qrels) == [0, 1]
    assert len(train.qrels) == 2
    assert 2 not in train.qrels
    assert pickle.loads(pickle.dumps(train)).qrels == train.qrels
    assert collection.facts["counts"]["train"]["positives"] == 2
    assert len(collection.splits["test"].queries) == 2


def test_gzip_and_plain_files_hold_the_same_collection(make_folder, spec_of, tmp_path):
    plain = materialise(spec_of(make_folder("plain")), 0, tmp_path / "root")
    packed = materialise(spec_of(make_folder("packed", gz=True)), 0, tmp_path / "root")
    assert packed.docs.digest == plain.docs.digest
    assert packed.splits["test"].qrels == plain.splits["test"].qrels


def test_title_and_text_are_joined(make_folder, spec_of, tmp_path):
    raw = b'{"doc_id": "d1", "title": "Cats", "text": "purr"}\n{"doc_id": "d2", "title": "", "text": "bark"}\n'
    raw += b'{"doc_id": "d3", "title": null, "text": "swim"}\n'
    collection = materialise(spec_of(make_folder(raw={"corpus.jsonl": raw})), 0, tmp_path / "root")
    assert collection.docs.texts(range(3)) == ["Cats\npurr", "bark", "swim"]


def test_a_split_can_be_named_apart_from_its_role(make_folder, tmp_path):
    folder = make_folder()
    spec = CollectionSpec(train=str(folder), dev=f"{folder}/test", test=f"{folder}/train")
    collection = materialise(spec, 0, tmp_path / "root")
    assert list(collection.splits["dev"].queries.ids) == ["q4", "q5"]
    assert list(collection.splits["test"].queries.ids) == ["q1", "q2"]


def test_unchanged_sources_are_not_written_again_and_changed_ones_are(make_folder, spec_of, tmp_path):
    folder = make_folder()
    first = materialise(spec_of(folder), 0, tmp_path / "root")
    written = os.stat(first.path / "docs.arrow").st_mtime_ns
    assert materialise(spec_of(folder), 7, tmp_path / "root").digest == first.digest  # nothing is sampled: no seed
    assert os.stat(first.path / "docs.arrow").st_mtime_ns == written
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("cats", "lions"))
    second = materialise(spec_of(folder), 0, tmp_path / "root")
    assert second.digest != first.digest
    assert second.docs.text(0) == "lions purr"
    assert first.docs.text(0) == "cats purr"


def test_the_digest_does_not_depend_on_where_things_are(make_folder, spec_of, tmp_path):
    here = materialise(spec_of(make_folder("here")), 0, tmp_path / "root1")
    there = materialise(spec_of(make_folder("there")), 0, tmp_path / "root2")
    assert here.digest == there.digest


def test_a_worker_reopens_and_pickles_it(make_folder, spec_of, tmp_path):
    collection = materialise(spec_of(make_folder()), 0, tmp_path / "root")
    reopened = open_collection(collection.path)
    assert list(reopened.docs.ids) == list(collection.docs.ids)
    assert reopened.splits["train"].qrels == collection.splits["train"].qrels
    assert collection.docs.hashes  # a filled cache does not travel
    data = pickle.dumps(collection.docs)
    assert len(data) < 500
    assert pickle.loads(data).texts([1]) == ["dogs bark"]


def test_hashes_are_mapped_from_beside_the_texts_and_made_where_there_is_no_file(make_folder, spec_of, tmp_path):
    docs = materialise(spec_of(make_folder()), 0, tmp_path / "root").docs
    expected = [text_hash(text) for text in ("cats purr", "dogs bark", "fish swim")]
    assert list(docs.hashes) == docs.hashes[:] == expected
    assert (docs.hashes[1:], docs.hashes[-1], len(docs.hashes)) == (expected[1:], expected[2], 3)
    assert docs.hashes.digits.dtype == HASH
    assert not docs.hashes.digits.flags.writeable  # the file's own pages
    hash_file(docs.path).unlink()
    again = open_collection(docs.path.parent).docs
    assert list(again.hashes) == expected


def test_an_unfinished_collection_is_an_error(tmp_path):
    with pytest.raises(CollectionError, match="no finished collection"):
        open_collection(tmp_path)


def test_sampled_queries_are_keyed_by_the_seed_and_nested(make_folder, spec_of, tmp_path):
    names = [f"q{number}" for number in range(40)]
    folder = make_folder(
        queries={"train": [(n, f"text {n}") for n in names]}, qrels={"train": [(n, "d1", 1) for n in names]}
    )

    def sample(limit: int, seed: int) -> list[str]:
        collection = materialise(spec_of(folder, max_train_queries=limit), seed, tmp_path / "root")
        return list(collection.splits["train"].queries.ids)

    # The stated permutation, by hand: sort by SHA-256 of "seed NUL id".
    by_hash = sorted(names, key=lambda name: hashlib.sha256(b"3\x00" + name.encode()).hexdigest())
    assert set(sample(10, 3)) == set(by_hash[:10])
    assert set(sample(5, 3)) < set(sample(10, 3))
    assert sample(10, 3) == [name for name in names if name in set(by_hash[:10])]  # order of the file
    assert set(sample(10, 4)) != set(sample(10, 3))
    assert sample(1000, 3) == names


def test_two_folders_share_one_set_of_documents(make_folder, tmp_path):
    one = make_folder("one")
    two = make_folder("two", docs=[("d3", "fish swim"), ("d1", "cats purr"), ("d9", "owls hoot")])
    collection = materialise(CollectionSpec(train=str(one), dev=str(two), test=str(one)), 0, tmp_path / "root")
    assert list(collection.docs.ids) == ["d1", "d2", "d3", "d9"]
    assert collection.splits["dev"].qrels == {0: {2: 2}}


def test_one_id_with_two_texts_is_an_error(make_folder, tmp_path):
    one, two = make_folder("one"), make_folder("two", docs=[("d1", "cats purr"), ("d3", "fish sink")])
    with pytest.raises(CollectionError, match=r"two/corpus\.jsonl, line 2: document d3 has another text"):
        materialise(CollectionSpec(train=str(one), dev=str(two), test=str(one)), 0, tmp_path / "root")
