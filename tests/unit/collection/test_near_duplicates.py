from __future__ import annotations

import random
import re

import pytest

from stillhouse.collection.near_duplicates import clusters, jaccard, shingles


def test_jaccard_of_word_five_grams():
    # 8 words -> 4 five-grams; changing the last word changes one: 3 shared of 5.
    one, two = "a b c d e f g h", "a b c d e f g x"
    assert jaccard(set(shingles(one).tolist()), set(shingles(two).tolist())) == pytest.approx(3 / 5)


def test_case_and_punctuation_make_no_difference():
    assert shingles("The cat, sat on the mat.").tolist() == shingles("the cat sat (on) THE mat").tolist()


def test_short_texts_are_one_shingle_of_their_own():
    assert clusters(["one two", "one two", "one three", ""]) == [0, 0, 2, 3]


def test_chains_are_one_cluster_named_by_its_first_text():
    base = [f"w{number}" for number in range(40)]
    first, last = base[:30], base[10:]
    # 30 words -> 26 five-grams; neighbours share 21 of 31 (0.68), the ends 16 of 36 (0.44).
    texts = [" ".join(part) for part in (first, ["other"] * 9, base[5:35], last)]
    assert clusters(texts) == [0, 1, 0, 0]
    assert clusters([texts[0], texts[3]]) == [0, 1]


def test_all_pairs_at_the_threshold_are_found():
    generator = random.Random(0)
    texts = []
    for _ in range(60):
        words = [generator.choice("abcdefghij") + str(generator.randrange(50)) for _ in range(60)]
        texts.append(" ".join(words))
        for _ in range(3):
            changed = list(words)
            for _ in range(generator.randrange(1, 6)):
                changed[generator.randrange(60)] = "new" + str(generator.random())[2:]
            texts.append(" ".join(changed))

    def grams(text):
        words = re.findall(r"\w+", text)
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    sets = [grams(text) for text in texts]
    home = clusters(texts, 0.5)
    found = 0
    for left in range(len(texts)):
        for right in range(left):
            if len(sets[left] & sets[right]) >= 0.5 * len(sets[left] | sets[right]):
                found += 1
                assert home[left] == home[right]
    assert found > 200
    # and what shares nothing stays apart
    assert len(set(home)) >= 60


def test_nothing():
    assert clusters([]) == []
