"""The layers written out for a CPU give what the library's own forward gives: scores, gradients, every head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.rankers import RANKERS, bert_layers, packed_layers
from stillhouse.rankers.attention import attend, hidden_keys
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.dropout import dropout
from tests.contracts.tiny_models import write_model

QUERIES = [[30, 31, 32], [33], [34, 35, 36, 37, 38]]
DOCS = [[list(range(30, 30 + size)) for size in sizes] for sizes in ((1, 9, 40), (17, 3), (25, 60, 2))]
KINDS = ("bert", "roberta", "electra")
POOLINGS = {"cross_encoder": ("cls", "mean", "pooler"), "dual_encoder": ("cls", "mean"), "colbert": (None,)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {kind: write_model(place / kind, kind) for kind in KINDS}


def make(folder: Path, kind: str, **options: Any) -> Ranker:
    """A ranker whose LayerNorms and biases differ from their start, so that one left out shows."""
    ranker: Ranker = RANKERS[kind].from_backbone(str(folder), query_max_length=8, doc_max_length=64, **options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(ranker.named_parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return ranker


def by_library(ranker: Ranker) -> Ranker:
    """The same ranker through the forward of transformers."""
    ranker.spec = ranker.spec.model_copy(update={"attention": "eager"})
    return ranker


CASES = [
    (kind, ranker, {} if pooling is None else {"pooling": pooling})
    for kind in KINDS
    for ranker, poolings in POOLINGS.items()
    for pooling in poolings
]


@pytest.mark.parametrize(("kind", "ranker_kind", "options"), CASES)
def test_scores_and_gradients_equal_the_librarys(
    folders: dict[str, Path], kind: str, ranker_kind: str, options: dict[str, Any]
) -> None:
    ours, theirs = make(folders[kind], ranker_kind, **options), by_library(make(folders[kind], ranker_kind, **options))
    assert bert_layers.covers(ours.backbone.base_model)
    expected_QK = theirs.score_tokens(QUERIES, DOCS)
    np.testing.assert_allclose(ours.score_tokens(QUERIES, DOCS), expected_QK, atol=1e-5, rtol=1e-5)
    for ranker in (ours, theirs):
        batch = ranker.collate(QUERIES, DOCS, num_chunks=2)
        scores_QK = ranker(batch)
        np.testing.assert_allclose(scores_QK.detach(), expected_QK, atol=1e-5, rtol=1e-5)
        torch.where(batch.mask_QK, scores_QK, 0.0).square().sum().backward()  # type: ignore[no-untyped-call]
    # Against the largest of all: the gradient of a key's bias is zero, what is left of it is rounding.
    largest = max(float(one.grad.abs().max()) for one in theirs.parameters() if one.grad is not None)
    compared = 0
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad / largest, other.grad / largest, atol=1e-5, rtol=1e-4, msg=name)
            compared += 1
    assert compared > 40


@pytest.mark.parametrize("ranker_kind", ["cross_encoder", "dual_encoder"])
def test_bfloat16_is_as_near_to_float32_as_the_librarys(folders: dict[str, Path], ranker_kind: str) -> None:
    exact_QK = make(folders["bert"], ranker_kind).score_tokens(QUERIES, DOCS)
    ours_QK = make(folders["bert"], ranker_kind).for_scoring(torch.bfloat16).score_tokens(QUERIES, DOCS)
    ranker = by_library(make(folders["bert"], ranker_kind)).for_scoring(torch.bfloat16)
    theirs_QK = ranker.score_tokens(QUERIES, DOCS)
    real = np.isfinite(exact_QK)
    spread = exact_QK[real].std()
    ours, theirs = (np.abs(one - exact_QK)[real].max() / spread for one in (ours_QK, theirs_QK))
    assert 0 < ours < max(2 * theirs, 0.05)


def test_packed_weights_follow_a_change(folders: dict[str, Path]) -> None:
    ranker = make(folders["bert"], "cross_encoder")
    before_QK = ranker.score_tokens(QUERIES, DOCS)
    with torch.no_grad():
        ranker.backbone.encoder.layer[1].output.dense.weight.mul_(1.5)
    after_QK = ranker.score_tokens(QUERIES, DOCS)
    assert np.abs(after_QK - before_QK)[np.isfinite(before_QK)].max() > 1e-3
    np.testing.assert_allclose(after_QK, by_library(ranker).score_tokens(QUERIES, DOCS), atol=1e-5, rtol=1e-5)


def test_a_step_of_the_optimiser_is_a_change(folders: dict[str, Path]) -> None:
    ranker = make(folders["bert"], "cross_encoder")
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=0.01, fused=True)
    ranker.score_tokens(QUERIES, DOCS)
    batch = ranker.collate(QUERIES, DOCS)
    scores_QK = ranker(batch)
    ranker.score_tokens(QUERIES, DOCS)  # packs between the two passes
    torch.where(batch.mask_QK, scores_QK, 0.0).sum().backward()  # type: ignore[no-untyped-call]
    ranker.score_tokens(QUERIES, DOCS)
    optimizer.step()
    optimizer.zero_grad()
    after_QK = ranker.score_tokens(QUERIES, DOCS)
    np.testing.assert_allclose(after_QK, by_library(ranker).score_tokens(QUERIES, DOCS), atol=1e-5, rtol=1e-5)


def test_without_onednn_operators_the_layers_run_as_they_are(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = make(folders["bert"], "cross_encoder")
    packed_QK = ranker.score_tokens(QUERIES, DOCS)
    monkeypatch.setattr(packed_layers, "_can_pack", lambda dtype: False)
    np.testing.assert_allclose(ranker.score_tokens(QUERIES, DOCS), packed_QK, atol=1e-5, rtol=1e-5)


def test_the_last_layer_computes_the_first_token_alone(folders: dict[str, Path]) -> None:
    ranker = make(folders["bert"], "cross_encoder", pooling="cls")
    tokens = ranker.collate(QUERIES, DOCS).pieces[0].tokens
    encoder = ranker.backbone
    with torch.no_grad():
        whole_PLD = bert_layers.states(encoder.eval(), tokens, types=True)
        first_P1D = bert_layers.states(encoder, tokens, types=True, first_only=True)
    assert first_P1D.shape[1] == 1
    torch.testing.assert_close(first_P1D, whole_PLD[:, :1], atol=1e-5, rtol=1e-5)


def test_attention_equals_torchs_and_its_gradient_is_the_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(6, 5, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)
    )
    mask_PL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    hidden = hidden_keys(mask_PL)
    assert hidden is not None
    assert hidden.start == 3
    seen = mask_PL.bool().repeat_interleave(2, 0)[:, None]
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    torch.testing.assert_close(attend(query, key, value, hidden), expected)
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, hidden), (query, key, value))

    def dropped(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return attend(*inputs, hidden, dropout=0.3)

    assert torch.autograd.gradcheck(dropped, (query, key, value))


def test_dropout_drops_its_share_and_follows_the_seed() -> None:
    x = torch.ones(1000, 401)
    torch.manual_seed(7)
    first, second = dropout(x, 0.1), dropout(x, 0.1)
    torch.manual_seed(7)
    assert torch.equal(dropout(x, 0.1), first)
    assert not torch.equal(second, first)
    dropped = (first == 0).float()
    deviation = (0.1 * 0.9 / x.numel()) ** 0.5
    assert abs(float(dropped.mean()) - 0.1) < 5 * deviation
    torch.testing.assert_close(first[first != 0], torch.full_like(first[first != 0], 1 / 0.9))
    # Neighbours share a 64-bit word: their draws have no correlation (401,000 pairs, five deviations of 1 / sqrt(n)).
    for shift in (1, 2, 3, 4):
        pairs = torch.stack([dropped.flatten()[:-shift], dropped.flatten()[shift:]])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 5 / x.numel() ** 0.5
    assert torch.equal(dropout(x, 0.0), x)


def test_dropout_keeps_the_mean_of_the_weights() -> None:
    """Values of one make each output the sum of its kept weights: 1 on average, with the variance of the draws."""
    torch.manual_seed(0)
    query = key = torch.zeros(64, 50, 8)
    with torch.enable_grad():
        sums = attend(query.requires_grad_(), key, torch.ones(64, 50, 8), None, dropout=0.1)[..., 0]
    # 50 equal weights of 1/50, each kept with 0.9 and divided by it: variance 50 * (1/50)^2 * 0.1 / 0.9.
    deviation = (0.1 / 0.9 / 50) ** 0.5
    assert abs(float(sums.mean()) - 1) < 5 * deviation / (64 * 50) ** 0.5
    assert 0.9 * deviation < float(sums.std()) < 1.1 * deviation
