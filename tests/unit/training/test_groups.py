"""Groups are a pure function of (seed, epoch, query): the same on any worker, nested in K, never a hidden positive."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stillhouse.recipe.tree import GroupsSpec
from stillhouse.training.groups import GroupSampler, epoch_order, scoring_pairs
from stillhouse.training.teacher import TeacherScores, write_teacher_scores


def sampler(toy, candidates, teacher=None, seed=0, **spec):
    return GroupSampler(toy.splits["train"], toy.docs, candidates, GroupsSpec(**spec), seed, teacher)


def test_the_positive_comes_first_and_is_never_a_negative(toy, toy_candidates):
    groups = sampler(toy, toy_candidates, num_negatives=7)
    for row in range(len(toy.splits["train"].queries)):
        group = groups.group(row, 0)
        (positive,) = [doc for doc, grade in toy.splits["train"].qrels[row].items() if grade > 0]
        assert group.doc_rows_K[0] == positive
        assert group.label_K.tolist() == [1.0] + [0.0] * (len(group.doc_rows_K) - 1)
        assert len(set(group.doc_rows_K.tolist())) == len(group.doc_rows_K)


@pytest.mark.parametrize("strategy", ["random", "top", "log_random"])
def test_a_smaller_group_is_a_prefix_of_a_larger_one(toy, toy_candidates, strategy):
    small = sampler(toy, toy_candidates, strategy=strategy, num_negatives=3)
    large = sampler(toy, toy_candidates, strategy=strategy, num_negatives=9)
    for row in range(8):
        k = small.group(row, 2).doc_rows_K
        assert large.group(row, 2).doc_rows_K[: len(k)].tolist() == k.tolist()


def test_groups_repeat_for_the_same_seed_and_epoch_and_differ_otherwise(toy, toy_candidates):
    def draw(seed, epoch):
        groups = sampler(toy, toy_candidates, seed=seed, num_negatives=5)
        return [groups.group(row, epoch).doc_rows_K.tolist() for row in range(12)]

    assert draw(0, 0) == draw(0, 0)
    assert draw(0, 0) != draw(0, 1)
    assert draw(0, 0) != draw(1, 0)


def test_top_takes_the_candidates_in_order_without_the_positive(toy, toy_candidates):
    groups = sampler(toy, toy_candidates, strategy="top", num_negatives=4)
    for row in range(6):
        positive = next(iter(toy.splits["train"].qrels[row]))
        expected = [doc for doc in toy_candidates.rows(row).tolist() if doc != positive][:4]
        assert groups.group(row, 0).doc_rows_K[1:].tolist() == expected


def test_depth_limits_where_negatives_come_from(toy, toy_candidates):
    groups = sampler(toy, toy_candidates, num_negatives=11, depth=4)
    for row in range(6):
        allowed = set(toy_candidates.rows(row)[:4].tolist())
        assert set(groups.group(row, 0).doc_rows_K[1:].tolist()) <= allowed


def test_teacher_top_takes_the_negatives_the_teacher_likes_best(toy, toy_candidates):
    queries = np.repeat(np.arange(len(toy.splits["train"].queries)), len(toy.docs))
    docs = np.tile(np.arange(len(toy.docs)), len(toy.splits["train"].queries))
    teacher = TeacherScores(queries, docs, docs.astype(np.float32))  # likes high row numbers
    groups = sampler(toy, toy_candidates, teacher, strategy="teacher_top", num_negatives=3)
    for row in range(6):
        positive = next(iter(toy.splits["train"].qrels[row]))
        pool = sorted((doc for doc in toy_candidates.rows(row).tolist() if doc != positive), reverse=True)
        group = groups.group(row, 0)
        assert group.doc_rows_K[1:].tolist() == pool[:3]
        assert group.teacher_K.tolist() == group.doc_rows_K.astype(np.float32).tolist()


def test_log_random_prefers_the_head_of_the_list(toy, toy_candidates):
    # First pick with weights 1/(1 + rank) over n documents: the head is drawn with probability 1 / H_n, here n = 11.
    counts: Counter[int] = Counter()
    groups = sampler(toy, toy_candidates, strategy="log_random", num_negatives=1)
    row = next(r for r in range(20) if len(toy_candidates.rows(r)) == 12)
    positive = next(iter(toy.splits["train"].qrels[row]))
    pool = [doc for doc in toy_candidates.rows(row).tolist() if doc != positive]
    for epoch in range(2000):
        counts[pool.index(int(groups.group(row, epoch).doc_rows_K[1]))] += 1
    expected = 1 / sum(1 / (1 + rank) for rank in range(len(pool)))
    # Standard error of a proportion around 0.33 over 2000 draws is 0.0105.
    assert counts[0] / 2000 == pytest.approx(expected, abs=0.045)
    assert counts[len(pool) - 1] / 2000 == pytest.approx(expected / len(pool), abs=0.03)


def test_epochs_visit_every_query_once_in_an_order_that_ids_decide():
    ids = [f"q{i}" for i in range(50)]
    order = epoch_order(ids, 0, 0)
    assert sorted(order) == list(range(50))
    assert order != epoch_order(ids, 0, 1)
    shuffled = ids[::-1]
    assert [shuffled[i] for i in epoch_order(shuffled, 0, 0)] == [ids[i] for i in order]


def test_scored_pairs_hold_the_candidates_and_the_positives_they_miss(toy, toy_candidates):
    pairs = scoring_pairs(toy.splits["train"], toy_candidates, depth=2)
    for row, docs in pairs.items():
        expected = toy_candidates.rows(row)[:2].tolist()
        expected += [doc for doc in toy.splits["train"].qrels[row] if doc not in expected]
        assert docs == expected


def test_teacher_scores_are_found_by_pair_and_nan_elsewhere(tmp_path):
    write_teacher_scores(
        tmp_path / "t.parquet", [(np.array([3, 1]), np.array([5, 2]), np.array([0.5, -1.0], dtype=np.float32))]
    )
    scores = TeacherScores.read(tmp_path / "t.parquet")
    found = scores.of(3, np.array([2, 5, 9]))
    assert found[1] == 0.5
    assert np.isnan(found[[0, 2]]).all()
    assert scores.of(1, np.array([2])).tolist() == [-1.0]
