"""Causal and recurrent language models against transformers' own logits, one prompt at a time without padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from stillhouse.rankers import RANKERS, Ranker
from tests.contracts.ranker_contract import ODD
from tests.contracts.tiny_models import write_model

CAPS = {"query_max_length": 12, "doc_max_length": 90}
QUERIES = ["river stone", "silver forest bridge"]
# From 1 to 90 tokens; the longest is beyond RecurrentGemma's attention window of 64.
DOCS = [["x", "river garden " * 30, "a silver needle"], ["forest", ""]]
TEMPLATE = "Document: {document}\n\nQuery: {query}"
KINDS = {"qwen2": "causal_lm", "mamba": "recurrent", "mamba2": "recurrent", "recurrent_gemma": "recurrent"}
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def make(folder: Path, **options: Any) -> Ranker:
    return RANKERS[KINDS[folder.name]].from_backbone(str(folder), **(CAPS | options))


def prompts(ranker: Ranker) -> list[list[torch.Tensor]]:
    """Ids of each prompt, written out by hand: document first, then query, then the end-of-text token."""
    before, between = ranker.tokenise(["Document: ", "\n\nQuery: "])
    return [
        [
            torch.tensor([[*before, *doc[:90], *between, *query[:12], ranker.tokenizer.eos_token_id]])
            for doc in ranker.tokenise(row)
        ]
        for query, row in zip(ranker.tokenise(QUERIES), DOCS, strict=True)
    ]


@pytest.mark.parametrize("head", ["linear", "yes_no"])
def test_scores_are_the_models_own(folder: Path, head: str) -> None:
    ranker = make(folder, head=head)
    scores_QK = ranker.score(QUERIES, DOCS)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if folder.name == "recurrent_gemma":
        # It bends logits by 30 tanh(x / 30); so low a cap shows at the size of random weights.
        assert ranker.backbone.config.logits_soft_cap == 30
        ranker.backbone.config.logits_soft_cap = model.config.logits_soft_cap = 0.05
        scores_QK = ranker.score(QUERIES, DOCS)
    yes, no = ranker.tokenizer.convert_tokens_to_ids(["yes", "no"])
    for number, row in enumerate(prompts(ranker)):
        for place, ids in enumerate(row):
            with torch.no_grad():
                output = model(ids, use_cache=False, output_hidden_states=True)
            if head == "yes_no":
                expected = output.logits[0, -1, yes] - output.logits[0, -1, no]
            else:
                expected = ranker.head.weight[0] @ output.hidden_states[-1][0, -1]
            assert scores_QK[number, place].item() == pytest.approx(expected.item(), rel=1e-4, abs=TOLERANCE)


def test_neighbours_and_order_change_nothing(folder: Path) -> None:
    ranker = make(folder)
    together = ranker.score(QUERIES, DOCS)
    turned = ranker.score(QUERIES[::-1], [row[::-1] for row in DOCS[::-1]])
    for number, row in enumerate(DOCS):
        for place, doc in enumerate(row):
            expected = together[number, place].item()
            assert ranker.score([QUERIES[number]], [[doc]]).item() == pytest.approx(expected, abs=TOLERANCE)
            other = turned[1 - number, len(row) - 1 - place].item()
            assert other == pytest.approx(expected, abs=TOLERANCE)


def test_the_tokenizers_padding_side_changes_nothing(folder: Path, tmp_path: Path) -> None:
    ranker = make(folder)
    ranker.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer_config.json"
    scores = []
    for side in ("left", "right"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": side}))
        again = type(ranker).from_pretrained(tmp_path / "saved")
        assert again.tokenizer.padding_side == side
        scores.append(again.score(QUERIES, DOCS))
    assert torch.equal(*scores)


def test_odd_texts_are_finite(folder: Path) -> None:
    assert make(folder).score(["", ODD[1]], [ODD, ODD]).isfinite().all()


def test_left_padding_elsewhere_gives_the_same(tmp_path: Path) -> None:
    """transformers with left padding and positions counted from the first real token."""
    folder = write_model(tmp_path / "qwen2", "qwen2")
    ranker = make(folder, head="yes_no")
    rows = [ids[0] for row in prompts(ranker) for ids in row]
    longest = max(map(len, rows))
    ids_PL = torch.stack([torch.nn.functional.pad(ids, (longest - len(ids), 0), value=1) for ids in rows])
    mask_PL = torch.stack([torch.arange(longest) >= longest - len(ids) for ids in rows]).long()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        positions = (mask_PL.cumsum(-1) - 1).clamp(min=0)
        logits_PV = model(ids_PL, attention_mask=mask_PL, position_ids=positions, use_cache=False).logits[:, -1]
    yes, no = ranker.tokenizer.convert_tokens_to_ids(["yes", "no"])
    scores_QK = ranker.score(QUERIES, DOCS)
    torch.testing.assert_close(
        scores_QK[scores_QK.isfinite()], logits_PV[:, yes] - logits_PV[:, no], rtol=1e-4, atol=TOLERANCE
    )
