from __future__ import annotations

import pickle

import numpy as np
import pytest

from stillhouse.collection import materialise, token_ids


class Letters:
    """A tokenizer that anyone can check: one token per letter, its code point."""

    def __init__(self) -> None:
        self.tokenizer_digest = "letters"
        self.calls = 0

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        self.calls += 1
        return [[ord(letter) for letter in text] for text in texts]


@pytest.fixture
def docs(make_folder, spec_of, tmp_path):
    texts = [(f"d{row}", "x" * (row % 7) + chr(97 + row % 26) if row % 5 else " ") for row in range(1, 2500)]
    return materialise(spec_of(make_folder(docs=[("d0", "start"), *texts])), 0, tmp_path / "root").docs


def test_ids_are_those_of_the_tokenizer_whatever_the_batch(docs, tmp_path):
    ids = token_ids(docs, Letters(), tmp_path / "root")
    assert len(ids) == len(docs) == 2500
    assert ids[0].dtype == np.int32
    for row in (0, 1, 5, 1023, 1024, 2047, 2048, 2499):
        assert ids[row].tolist() == [ord(letter) for letter in docs.text(row)]
    assert ids.lengths.tolist() == [len(text) for text in docs.texts(range(2500))]
    with pytest.raises(IndexError):
        ids[2500]


def test_texts_are_tokenised_once_per_tokenizer(docs, tmp_path):
    letters = Letters()
    first = token_ids(docs, letters, tmp_path / "root")
    assert letters.calls == 3  # batches of 1024
    again = token_ids(docs, letters, tmp_path / "root")
    assert letters.calls == 3
    assert again[7].tolist() == first[7].tolist()
    letters.tokenizer_digest = "another"
    token_ids(docs, letters, tmp_path / "root")
    assert letters.calls == 6


def test_only_the_path_is_pickled_and_the_arrays_are_mapped(docs, tmp_path):
    ids = token_ids(docs, Letters(), tmp_path / "root")
    assert ids.lengths.sum() > 0
    data = pickle.dumps(ids)
    assert len(data) < 500
    assert pickle.loads(data)[0].tolist() == ids[0].tolist()
    assert isinstance(ids[0].base.base, np.memmap)


def test_a_tokenizer_that_finds_nothing(docs, tmp_path):
    class Nothing(Letters):
        def tokenise(self, texts: list[str]) -> list[list[int]]:
            return [[] for _ in texts]

    ids = token_ids(docs, Nothing(), tmp_path / "other")
    assert ids[3].tolist() == []
    assert ids.lengths.sum() == 0
