"""Numbers worked out by hand or from the definition, for what no library scores."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse.rankers import RANKERS
from stillhouse.rankers.batching import budget_batches, even_pieces
from tests.contracts.ranker_contract import CAPS
from tests.contracts.tiny_models import write_model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


def test_tk_of_one_word_against_two(bert: Path) -> None:
    """With alpha = 1 the vectors are the embeddings: query (1, 0); document (1, 0), (0, 1): cosines 1 and 0."""
    ranker = RANKERS["tk"].from_backbone(str(bert), embedding_dim=2, num_heads=1, **CAPS)
    (word,), (other,) = ranker.tokenise(["river", "stone"])
    weights = [0.1 * number for number in range(11)]
    with torch.no_grad():
        ranker.alpha.fill_(1.0)
        ranker.embedding.weight[word] = torch.tensor([1.0, 0.0])
        ranker.embedding.weight[other] = torch.tensor([0.0, 1.0])
        ranker.kernels.weight.copy_(torch.tensor([weights]))
    means = [1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9]
    kernels = [math.exp(-((1 - mean) ** 2) / 0.02) + math.exp(-((0 - mean) ** 2) / 0.02) for mean in means]
    expected = sum(weight * math.log(max(value, 1e-10)) for weight, value in zip(weights, kernels, strict=True))
    scores_QK = ranker.score(["river", "river stone " * 5], [["river stone"], ["stone " * 30]])
    assert scores_QK[0, 0].item() == pytest.approx(expected, rel=1e-4)


def test_tk_starts_from_the_backbones_words(bert: Path) -> None:
    ranker = RANKERS["tk"].from_backbone(str(bert), **CAPS)
    table = RANKERS["dual_encoder"].from_backbone(str(bert), **CAPS).backbone.get_input_embeddings().weight
    assert torch.equal(ranker.embedding.weight, table)
    assert "embedding.weight" not in ranker.fresh_parameters()
    assert ranker.alpha.item() == 0.5


def test_language_model_reads_the_whole_prompt(qwen: Path) -> None:
    """Scores equal the model's own logits at the end of the prompt written out by hand."""
    template = "find {query} in {document} yes or no"
    ranker = RANKERS["causal_lm"].from_backbone(
        str(qwen), template=template, head="yes_no", append_eos=False, query_max_length=3, doc_max_length=4
    )
    texts = ["find ", " in ", " yes or no", "river stone garden window", "silver forest bridge candle doctor pencil"]
    find, between, ending, query, doc = ranker.tokenise(texts)
    assert len(query) > 3
    assert len(doc) > 4
    yes, no = ranker.tokenizer.convert_tokens_to_ids(["yes", "no"])
    with torch.inference_mode():
        logits_V = ranker.backbone(torch.tensor([find + query[:3] + between + doc[:4] + ending])).logits[0, -1]
    scores_QK = ranker.score([texts[3], "x"], [[texts[4]], ["y"]])
    assert scores_QK[0, 0].item() == pytest.approx((logits_V[yes] - logits_V[no]).item(), abs=1e-5)
    assert (ranker.truncation.texts, ranker.truncation.truncated) == (4, 2)


def test_language_model_document_first_and_end_of_text(qwen: Path) -> None:
    ranker = RANKERS["causal_lm"].from_backbone(str(qwen), **CAPS)
    document, query = ranker.tokenise(["silver", "river"])
    parts = ranker.tokenise(["Document: ", "\n\nQuery: "])
    eos = ranker.tokenizer.eos_token_id
    assert ranker.row(query, document)[0] == [*parts[0], *document, *parts[1], *query, eos]


@pytest.mark.parametrize(("similarity", "scale"), [("dot", 1.0), ("cosine", 20.0)])
def test_dual_encoder_from_its_definition(bert: Path, similarity: str, scale: float) -> None:
    ranker = RANKERS["dual_encoder"].from_backbone(str(bert), similarity=similarity, score_scale=scale, **CAPS)
    vectors = []
    for text in ["river stone", "silver forest river"]:
        ids = torch.tensor([[2, *ranker.tokenise([text])[0], 3]])
        with torch.inference_mode():
            vectors.append(ranker.backbone(ids).last_hidden_state[0].mean(0))
    product = float(vectors[0] @ vectors[1])
    if similarity == "cosine":
        product /= float(vectors[0].norm() * vectors[1].norm())
    score = ranker.score(["river stone"], [["silver forest river"]]).item()
    assert score == pytest.approx(scale * product, rel=1e-5)


def test_learnt_scale_starts_where_told_and_learns(bert: Path) -> None:
    ranker = RANKERS["dual_encoder"].from_backbone(str(bert), score_scale=20.0, learn_score_scale=True, **CAPS)
    assert ranker.scale.value() == pytest.approx(20.0)
    scores_QK = ranker(ranker.collate(ranker.tokenise(["river"]), [ranker.tokenise(["stone"])]))
    scores_QK.sum().backward()
    # d(s e^l)/dl = s e^l: the score itself.
    assert ranker.scale.log_scale.grad.item() == pytest.approx(scores_QK.item(), rel=1e-5)


@pytest.mark.parametrize("dimension", [4, 3, 2, 1])
def test_a_dual_encoder_fits_any_matrix_up_to_its_rank(bert: Path, dimension: int) -> None:
    """Menon et al., Proposition 1: scores of rank 3 need vectors of 3 dimensions.

    Fewer leave the root of the sum of the squares of the singular values that they cannot hold (Eckart and Young).
    The vectors are free; the scores and their gradients are the ranker's own.
    """
    ranker = RANKERS["dual_encoder"].from_backbone(str(bert), num_layers=1, score_scale=2.0, **CAPS)
    rng = np.random.default_rng(0)
    target_QN = torch.from_numpy(rng.normal(size=(8, 3)) @ rng.normal(size=(3, 9))).float()
    draw = torch.Generator().manual_seed(0)
    queries, docs = (torch.randn(size, dimension, generator=draw).requires_grad_() for size in (8, 9))
    search = torch.optim.LBFGS([queries, docs], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=0.0)

    def objective() -> float:
        search.zero_grad()
        error = (ranker.interact(queries, docs) - target_QN).square().sum()
        error.backward()
        return float(error.detach())

    search.step(objective)
    singular = np.linalg.svd(target_QN.double().numpy(), compute_uv=False)
    left_over = float(np.sqrt((singular[dimension:] ** 2).sum()))
    assert objective() ** 0.5 == pytest.approx(left_over, rel=1e-4, abs=1e-3)
    assert left_over > 1 or dimension >= 3


def test_pieces_have_about_equal_tokens() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 200).tolist()
    pieces = even_pieces(lengths, 4)
    assert sorted(itertools.chain(*pieces)) == list(range(200))
    sums = [sum(lengths[place] for place in piece) for piece in pieces]
    assert max(sums) - min(sums) <= 100
    in_order = [lengths[place] for place in itertools.chain(*pieces)]
    assert in_order == sorted(lengths, reverse=True)
    assert even_pieces([], 3) == [[], [], []]


def test_batches_stay_within_their_budget() -> None:
    lengths = np.random.default_rng(1).integers(1, 300, 100).tolist()
    batches = list(budget_batches(lengths, 1024))
    assert sorted(itertools.chain(*batches)) == list(range(100))
    for batch in batches:
        padded = -(-max(lengths[place] for place in batch) // 8) * 8 * len(batch)
        assert padded <= 1024
    assert [len(batch) for batch in budget_batches([5000, 10], 1024)] == [1, 1]
