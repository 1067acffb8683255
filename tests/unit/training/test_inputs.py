"""What training does to its inputs: tokens hidden for the masked-language-model loss, tokens left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stillhouse.losses.mlm import IGNORED
from stillhouse.rankers import RANKERS
from stillhouse.records import Group
from stillhouse.training.batches import make_micro_batch, token_dropout
from stillhouse.training.masking import masked_inputs

CAPS = {"query_max_length": 12, "doc_max_length": 40}
NUM_QUERIES, WIDTH = 6, 5
LENGTHS = np.random.default_rng(1).integers(1, 50, size=60)
QUERY_IDS = [np.arange(5, 17, dtype=np.int32) for _ in range(NUM_QUERIES)]
DOC_IDS = [
    np.random.default_rng(row).integers(5, 37, size=length).astype(np.int32) for row, length in enumerate(LENGTHS)
]


def groups():
    empty = np.zeros(WIDTH, dtype=np.float32)
    return [Group(row, np.arange(row, row + WIDTH, dtype=np.int32), empty, empty) for row in range(NUM_QUERIES)]


def micro_batches(ranker, size, last_is_padding=False):
    shares = [(group, not (last_is_padding and group.query_row == NUM_QUERIES - 1)) for group in groups()]
    return [
        make_micro_batch(shares[start : start + size], WIDTH, ranker, QUERY_IDS, DOC_IDS, torch.device("cpu"))
        for start in range(0, NUM_QUERIES, size)
    ]


def chosen(micros, ranker, probability=0.3, key=("seed", 0, 4)):
    """(query, place) -> (hidden ids, labels) of its tokens, of all micro-batches."""
    found = {}
    for micro in micros:
        parts = masked_inputs(micro, ranker, probability, key)
        pieces = list(micro.batch.pieces)
        slots = [piece.slots_P.tolist() for piece in pieces]
        if micro.batch.queries is not None:
            slots.insert(0, [("query", row) for row in range(len(micro.query_rows))])
        for part, places in zip(parts, slots, strict=True):
            lengths = part.tokens.mask_PL.sum(1).tolist()
            for row, place in enumerate(places):
                if isinstance(place, tuple):
                    name = (micro.query_rows[place[1]], "query")
                elif place < len(micro.query_rows) * WIDTH:
                    name = (micro.query_rows[place // WIDTH], place % WIDTH)
                else:
                    name = ("dummy", len(found))
                length = lengths[row]
                found[name] = part.tokens.ids_PL[row, :length].tolist(), part.label_PL[row, :length].tolist()
                assert (part.label_PL[row, length:] == IGNORED).all()
    return found


@pytest.fixture(scope="module", params=["cross_encoder", "colbert"])
def ranker(request, backbone):
    return RANKERS[request.param].from_backbone(str(backbone), **CAPS)


def test_the_choice_is_that_of_any_micro_batch_size_and_changes_with_the_step(ranker):
    whole = chosen(micro_batches(ranker, NUM_QUERIES), ranker)
    assert whole == chosen(micro_batches(ranker, 1), ranker)
    assert whole != chosen(micro_batches(ranker, NUM_QUERIES), ranker, key=("seed", 0, 5))


def test_special_tokens_and_padding_queries_are_left_alone(ranker):
    special = set(ranker.tokenizer.all_special_ids)
    for (query, _), (ids, labels) in chosen(micro_batches(ranker, 4, last_is_padding=True), ranker).items():
        assert not special & set(labels)
        if query in ("dummy", NUM_QUERIES - 1):
            assert set(labels) == {IGNORED}
        # What is not to be predicted stands as it was: no [MASK] but on chosen tokens and ColBERT's own.
        kept = [token for token, label in zip(ids, labels, strict=True) if label == IGNORED]
        assert ranker.key == "colbert" or ranker.tokenizer.mask_token_id not in kept


def test_shares_are_15_percent_and_80_10_10(backbone):
    ranker = RANKERS["dual_encoder"].from_backbone(str(backbone), query_max_length=12, doc_max_length=100)
    vocabulary = len(ranker.tokenizer)
    docs = [np.random.default_rng(row).integers(5, vocabulary, size=100).astype(np.int32) for row in range(400)]
    group = Group(0, np.arange(400, dtype=np.int32), np.zeros(400, np.float32), np.zeros(400, np.float32))
    micro = make_micro_batch([(group, True)], 400, ranker, QUERY_IDS, docs, torch.device("cpu"))
    _, part = masked_inputs(micro, ranker, 0.15, ("x",))
    at_PL = part.label_PL != IGNORED
    # 40,000 tokens: the share's standard deviation is sqrt(0.15 x 0.85 / 40,000) = 0.0018; 6,000 of them: 0.005.
    assert float(at_PL.sum()) / 40_000 == pytest.approx(0.15, abs=0.007)
    ids, labels = part.tokens.ids_PL[at_PL], part.label_PL[at_PL]
    hidden = ids == ranker.tokenizer.mask_token_id
    # A random token is [MASK] or the token itself once in `vocabulary` times each.
    assert float(hidden.float().mean()) == pytest.approx(0.8 + 0.1 / vocabulary, abs=0.02)
    assert float((ids == labels).float().mean()) == pytest.approx(0.1 + 0.1 / vocabulary, abs=0.015)


def test_token_dropout_keeps_order_and_one_token_and_reads_within_the_cap():
    cut = token_dropout(0.4, {"query": 12, "doc": 1_000}, ("seed", 1))
    ids = np.arange(5_000, dtype=np.int32)
    kept = cut(ids, "doc", 3, 4)
    # 1,000 draws: standard deviation sqrt(0.4 x 0.6 / 1,000) = 0.0155.
    assert len(kept) / 1_000 == pytest.approx(0.6, abs=0.06)
    assert (np.diff(kept) > 0).all()
    assert kept.max() < 1_000
    assert np.array_equal(kept, cut(ids, "doc", 3, 4))
    assert not np.array_equal(kept, cut(ids, "doc", 4, 4))
    nearly_all = token_dropout(0.999999, {"query": 12, "doc": 1_000}, ("seed", 1))
    assert len(nearly_all(ids, "query", 0, -1)) == 1
    assert len(nearly_all(ids[:0], "query", 0, -1)) == 0
