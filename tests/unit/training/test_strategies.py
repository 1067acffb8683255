"""Every strategy draws the prefix of one keyed permutation, whoever draws it and in whatever order."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.candidates.ranking import Candidates, to_table
from stillhouse.errors import CollectionError
from stillhouse.recipe.groups import GroupsSpec
from stillhouse.training.false_negatives import highest_allowed
from stillhouse.training.groups import GroupSampler, keyed_generator, scoring_pairs
from stillhouse.training.teacher import TeacherScores
from stillhouse.training.triples import open_triples
from stillhouse.training.uniform import SMALL, uniform_rows

QUERIES, DOCS, DEPTH = 24, 60, 12
STRATEGIES = ("random", "top", "teacher_top", "log_random", "triples", "in_batch", "uniform")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory) -> Candidates:
    """Candidates by arithmetic: no first stage decides what the groups below are compared with."""
    path = tmp_path_factory.mktemp("candidates") / "candidates.parquet"
    rows = {q: np.array([(q * 7 + 5 * k) % DOCS for k in range(DEPTH)], dtype=np.int32) for q in range(QUERIES)}
    pq.write_table(to_table({q: (docs, -np.arange(float(DEPTH))) for q, docs in rows.items()}), path)
    return Candidates(path, "arithmetic", {"queries": QUERIES})


@pytest.fixture(scope="module")
def teacher() -> TeacherScores:
    queries, docs = np.repeat(np.arange(QUERIES), DOCS), np.tile(np.arange(DOCS), QUERIES)
    return TeacherScores(queries, docs, ((queries * 13 + docs * 29) % 97 / 10).astype(np.float32))


@pytest.fixture(scope="module")
def triples_file(toy, tmp_path_factory) -> Path:
    """Eight triples for each query but the last, of its positive and documents that are not."""
    path = tmp_path_factory.mktemp("triples") / "triples.tsv.gz"
    lines = []
    for number in range(8):
        for query in range(QUERIES - 1):
            positive = next(iter(toy.splits["train"].qrels[query]))
            negative = (positive + 1 + 7 * number) % DOCS
            lines.append(f"q{query}\t{toy.docs.ids[positive]}\t{toy.docs.ids[negative]}\n")
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return path


@pytest.fixture(scope="module")
def make(toy, candidates, teacher, triples_file, workspace):
    triples = open_triples(triples_file, toy, workspace)

    def sampler(strategy: str, seed: int = 0, **more) -> GroupSampler:
        spec = GroupsSpec(strategy=strategy, triples=str(triples_file) if strategy == "triples" else None, **more)
        chosen = triples if strategy == "triples" else None
        return GroupSampler(toy.splits["train"], toy.docs, candidates, spec, seed, teacher, chosen)

    return sampler


@pytest.mark.parametrize(
    ("strategy", "digest"),
    [
        ("random", "3843fddcd3426919"),
        ("top", "c91a39af03953151"),
        ("teacher_top", "1f1d46ef5f4953c9"),
        ("log_random", "f1f9695a6d1c0b3b"),
    ],
)
def test_groups_stay_what_they_were(make, strategy, digest):
    # Digests of the groups with which the results in README.md were made: kept models were trained on them.
    rows = []
    for seed in (0, 5):
        sampler = make(strategy, seed, num_negatives=5, depth=10)
        groups = [sampler.group(row, epoch) for row in range(QUERIES) for epoch in range(3)]
        rows += [[group.doc_rows_K.tolist(), group.label_K.tolist(), group.teacher_K.tolist()] for group in groups]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == digest


@settings(max_examples=60)
@given(
    strategy=st.sampled_from(STRATEGIES),
    query=st.integers(0, QUERIES - 1),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 5),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    margin=st.none() | st.floats(-2, 5),
)
def test_a_group_is_a_prefix_without_known_positives_on_any_worker(make, strategy, query, epoch, seed, sizes, margin):
    small, large = sorted(sizes)
    more = {"false_negative_margin": margin}
    sampler = make(strategy, seed, num_negatives=large, **more)
    group = sampler.group(query, epoch)
    # Another worker has its own copy, and has drawn other groups before.
    other = pickle.loads(pickle.dumps(sampler))
    for before in range(3):
        other.group((query + before) % QUERIES, epoch + 1)
    again = other.group(query, epoch)
    assert again.doc_rows_K.tolist() == group.doc_rows_K.tolist()
    prefix = make(strategy, seed, num_negatives=small, **more).group(query, epoch).doc_rows_K
    assert group.doc_rows_K[: len(prefix)].tolist() == prefix.tolist()
    assert len(prefix) == min(1 + small, len(group.doc_rows_K))
    assert len(set(group.doc_rows_K.tolist())) == len(group.doc_rows_K)
    positives = {row for row, grade in sampler.split.qrels[query].items() if grade > 0}
    assert positives.isdisjoint(group.doc_rows_K[1:].tolist())
    assert group.label_K.tolist() == [1.0] * min(1, len(group.label_K)) + [0.0] * (len(group.label_K) - 1)
    if margin is not None and len(group.teacher_K):
        assert (group.teacher_K[1:] <= np.float32(group.teacher_K[0]) - margin).all()


def test_a_margin_takes_candidates_out_and_leaves_the_order_of_the_rest(make, teacher, candidates):
    bounded = make("random", num_negatives=DEPTH, false_negative_margin=1.0)
    free = make("random", num_negatives=DEPTH)
    removed = 0
    for query in range(QUERIES):
        all_rows = free.group(query, 0).doc_rows_K
        group = bounded.group(query, 0)
        bound = teacher.of(query, all_rows[:1])[0] - 1.0
        expected = [row for row in all_rows[1:].tolist() if teacher.of(query, np.array([row]))[0] <= bound]
        assert group.doc_rows_K[1:].tolist() == expected
        assert group.removed == len(all_rows) - 1 - len(expected)
        removed += group.removed
    assert 0 < removed < QUERIES * (DEPTH - 1)


@pytest.mark.parametrize(
    ("positive", "kind", "margin", "bound"),
    [
        (4.0, "absolute", 0.5, 3.5),
        (-4.0, "absolute", 0.5, -4.5),
        (4.0, "relative", 0.95, 3.8),
        # A fraction of a negative score would lie above it: the positive itself is the bound.
        (-4.0, "relative", 0.95, -4.0),
        (0.0, "relative", 0.95, 0.0),
        (float("nan"), "absolute", 0.5, float("inf")),
    ],
)
def test_the_bound_of_a_margin(positive, kind, margin, bound):
    spec = GroupsSpec(false_negative_margin=margin, false_negative_margin_kind=kind)
    assert highest_allowed(positive, spec) == pytest.approx(bound)


def test_uniform_draws_every_document_alike(make, toy):
    counts: Counter[int] = Counter()
    sampler = make("uniform", num_negatives=5)
    draws = 2400
    for epoch in range(draws):
        counts.update(sampler.group(0, epoch).doc_rows_K[1:].tolist())
    positive = next(iter(sampler.split.qrels[0]))
    assert set(counts) == set(range(DOCS)) - {positive}
    # Each of 59 with chance 5/59: variance of a count below 2400 x 0.0847 x 0.9153 = 186, so 5 sigma is 68.
    assert max(abs(count - draws * 5 / 59) for count in counts.values()) < 68


def test_a_large_corpus_is_drawn_from_without_repeats():
    rows = uniform_rows(keyed_generator("a"), SMALL + 1)
    first = [next(rows) for _ in range(3000)]
    assert len(set(first)) == 3000
    assert max(first) <= SMALL
    again = uniform_rows(keyed_generator("a"), SMALL + 1)
    assert [next(again) for _ in range(10)] == first[:10]
    everything = list(uniform_rows(keyed_generator("b"), SMALL + 1))
    assert len(everything) == len(set(everything)) == SMALL + 1


def test_the_floor_of_uniform_negatives_is_the_lowest_score_of_the_candidates(make, toy, candidates):
    query = 3
    rows = [*candidates.rows(query).tolist(), *sorted(toy.splits["train"].qrels[query])]
    scores = np.linspace(2.0, -1.5, len(rows)).astype(np.float32)
    teacher = TeacherScores(np.full(len(rows), query), np.array(rows), scores)
    made = make("uniform", num_negatives=20, unscored="floor")
    group = GroupSampler(toy.splits["train"], toy.docs, candidates, made.spec, 0, teacher).group(query, 0)
    known = dict(zip(rows, scores.tolist(), strict=True))
    assert group.teacher_K.tolist() == [known.get(row, -1.5) for row in group.doc_rows_K.tolist()]
    lone = TeacherScores(np.array([query]), np.array(rows[-1:]), np.array([2.0], dtype=np.float32))
    group = GroupSampler(toy.splits["train"], toy.docs, candidates, made.spec, 0, lone).group(query, 0)
    assert np.isnan(group.teacher_K[1:]).all()


def test_triples_give_their_positive_and_their_negatives(make, toy, candidates):
    sampler = make("triples")
    assert sampler.spec.num_negatives == 1
    for query in range(QUERIES - 1):
        positive = next(iter(toy.splits["train"].qrels[query]))
        expected = {(positive + 1 + 7 * number) % DOCS for number in range(8)}
        assert sampler.group(query, 0).doc_rows_K[0] == positive
        assert set(sampler.group(query, 0).doc_rows_K[1:].tolist()) <= expected
        assert set(make("triples", num_negatives=30).group(query, 0).doc_rows_K[1:].tolist()) == expected
    assert len(sampler.group(QUERIES - 1, 0).doc_rows_K) == 0
    pairs = scoring_pairs(toy.splits["train"], candidates, 0, triples=[sampler.triples])
    assert set(pairs[0]) == set(make("triples", num_negatives=30).group(0, 0).doc_rows_K.tolist())


def test_a_triple_with_an_unlabelled_positive_is_trained_on_as_one(toy, candidates, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("q0\td50\td51\nq0\td50\td0\nq9\tnot-here\td1\n")
    triples = open_triples(path, toy, tmp_path)
    assert len(triples) == 2
    spec = GroupsSpec(strategy="triples", triples=str(path), num_negatives=5)
    group = GroupSampler(toy.splits["train"], toy.docs, candidates, spec, 0, None, triples).group(0, 0)
    # d0 is the labelled positive of q0: no negative.
    assert [toy.docs.ids[row] for row in group.doc_rows_K] == ["d50", "d51"]
    assert group.label_K.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q0\td0\td1\nq0 d0 d1\n", r"t\.tsv, line 2: 1 fields; expected lines of query_id, positive_id"),
        ("", "Empty CSV file"),
        ("a\tb\tc\n", "none of its 1 triples names a train query"),
    ],
)
def test_a_bad_file_of_triples_is_one_line(toy, tmp_path, text, said):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(CollectionError, match=said) as caught:
        open_triples(tmp_path / "t.tsv", toy, tmp_path)
    assert "\n" not in str(caught.value)
