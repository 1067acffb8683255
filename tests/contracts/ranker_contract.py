"""What every architecture must hold: subclass, name `key`, `kind` and `options`, and pytest runs it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from stillhouse.errors import StillhouseError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from tests.contracts.tiny_models import write_model

CAPS = {"query_max_length": 10, "doc_max_length": 40}
QUERIES = ["river stone", "silver forest, bridge"]
DOCS = [["a river in the garden"], ["silver forest", "x", "needle " * 30]]
ODD = ["", "\N{GRINNING FACE} \N{FAMILY}", "שלום עולם", "river\x00stone", "\ud800 lone", "stone " * 200_000]
FLOAT32 = 2e-5
BFLOAT16 = 0.03


class RankerContract:
    key: ClassVar[str]
    kind: ClassVar[str] = "bert"
    options: ClassVar[dict[str, Any]] = {}
    num_blocks: ClassVar[int] = 3

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_model(tmp_path_factory.mktemp(cls.kind), cls.kind)

    @classmethod
    def make(cls, folder: Path, *, seed: int = 0, **options: Any) -> Ranker:
        return RANKERS[cls.key].from_backbone(str(folder), seed=seed, **(CAPS | cls.options | options))

    @pytest.fixture(scope="class")
    @classmethod
    def ranker(cls, folder: Path) -> Ranker:
        return cls.make(folder)

    def tokens(self, ranker: Ranker, docs: list[list[str]] = DOCS) -> tuple[list[list[int]], list[list[list[int]]]]:
        return ranker.tokenise(QUERIES), [ranker.tokenise(row) for row in docs]

    def test_shape_and_padding(self, ranker: Ranker) -> None:
        scores_QK = ranker.score(QUERIES, DOCS)
        assert scores_QK.dtype == torch.float32
        assert scores_QK.shape == (2, 3)
        assert scores_QK.isneginf().tolist() == [[False, True, True], [False, False, False]]
        assert len(set(scores_QK[1].tolist())) == 3

    def test_reopened_is_equal(self, ranker: Ranker, tmp_path: Path) -> None:
        ranker.save_pretrained(tmp_path / "saved", card="Made for a test.")
        again = load_ranker(tmp_path / "saved")
        assert type(again) is type(ranker)
        assert again.spec == ranker.spec
        assert torch.equal(again.score(QUERIES, DOCS), ranker.score(QUERIES, DOCS))
        assert again.weight_digest() == ranker.weight_digest()
        assert again.tokenizer_digest == ranker.tokenizer_digest
        assert again.fresh_parameters() == ranker.fresh_parameters()
        assert "Made for a test." in (tmp_path / "saved" / "README.md").read_text()
        suffixes = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
        assert suffixes <= {".json", ".safetensors", ".md", ".txt"}

    def test_missing_weights_are_an_error(self, ranker: Ranker, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        ranker.save_pretrained(tmp_path / "saved")
        for path in [tmp_path / "saved" / "ranker.safetensors", tmp_path / "saved" / "model.safetensors"]:
            tensors = load_file(path) if path.exists() else {}
            if len(tensors) > 0:
                # Safetensors keep no order: the last name is a layer's or a head's, never an unused pooler's.
                names = [name for name in sorted(tensors) if not name.startswith("pooler")]
                save_file({name: tensors[name] for name in tensors if name != names[-1]}, path, {"format": "pt"})
                with pytest.raises(StillhouseError, match=r"weights|missing"):
                    load_ranker(tmp_path / "saved")
                save_file(tensors, path, {"format": "pt"})
        load_ranker(tmp_path / "saved")

    def test_seed_decides_fresh_weights_and_nothing_else(self, folder: Path) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        first, second = self.make(folder, seed=1), self.make(folder, seed=1)
        assert torch.equal(torch.rand(1), expected)
        assert first.weight_digest() == second.weight_digest()
        names = dict(first.named_parameters())
        assert first.fresh_parameters() <= names.keys()
        other = dict(self.make(folder, seed=2).named_parameters())
        changed = {name for name in names if not torch.equal(names[name], other[name])}
        assert changed <= first.fresh_parameters()
        matrices = {name for name in first.fresh_parameters() if names[name].ndim >= 2}
        assert matrices <= changed

    def test_one_by_one_is_the_same(self, ranker: Ranker) -> None:
        scores_QK = ranker.score(QUERIES, DOCS)
        for number, (query, row) in enumerate(zip(QUERIES, DOCS, strict=True)):
            for place, doc in enumerate(row):
                alone = ranker.score([query], [[doc]])[0, 0]
                assert alone.item() == pytest.approx(scores_QK[number, place].item(), rel=FLOAT32, abs=FLOAT32)

    def test_token_budget_changes_nothing(self, ranker: Ranker) -> None:
        queries, docs = self.tokens(ranker)
        scores = [ranker.score_tokens(queries, docs, token_budget=budget) for budget in (8, 64, 100_000)]
        np.testing.assert_allclose(scores[0], scores[2], rtol=FLOAT32, atol=FLOAT32)
        np.testing.assert_allclose(scores[1], scores[2], rtol=FLOAT32, atol=FLOAT32)

    @pytest.mark.parametrize("num_chunks", [1, 2, 6])
    def test_forward_equals_score(self, ranker: Ranker, num_chunks: int) -> None:
        queries, docs = self.tokens(ranker)
        arrays = [[np.asarray(ids, dtype=np.int32) for ids in row] for row in docs]
        batch = ranker.collate(queries, arrays, num_chunks=num_chunks, width=5)
        assert len(batch.pieces) == num_chunks
        assert batch.mask_QK.tolist() == [[True] + [False] * 4, [True] * 3 + [False] * 2]
        scores_QK = ranker.eval()(batch).detach()
        assert scores_QK.isneginf().equal(~batch.mask_QK)
        expected = ranker.score_tokens(queries, docs)
        np.testing.assert_allclose(scores_QK[:, :3].numpy(), expected, rtol=FLOAT32, atol=FLOAT32)

    def test_pieces_and_dummies_leave_the_gradient(self, ranker: Ranker) -> None:
        queries, docs = self.tokens(ranker)
        gradients = []
        for num_chunks in (1, 6):
            ranker.zero_grad()
            batch = ranker.collate(queries, docs, num_chunks=num_chunks)
            ranker.eval()(batch)[batch.mask_QK].mul(torch.tensor([1.0, -2.0, 3.0, 0.5])).sum().backward()
            gradients.append({name: p.grad.clone() for name, p in ranker.named_parameters() if p.requires_grad})
        for name, gradient in gradients[0].items():
            scale = max(gradient.abs().max().item(), 1e-3)
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4 * scale)
        # Whatever asks for a gradient has one, and most of it is not zero.
        nonzero = [bool(gradient.any()) for gradient in gradients[0].values()]
        assert sum(nonzero) > 0.7 * len(nonzero)

    def test_a_batch_of_nothing_keeps_its_place_in_the_graph(self, ranker: Ranker) -> None:
        ranker.zero_grad()
        batch = ranker.collate([[]], [[]], num_chunks=2, width=3)
        scores_QK = ranker.eval()(batch)
        assert scores_QK.isneginf().all()
        torch.where(batch.mask_QK, scores_QK, 0.0).sum().backward()
        gradients = [p.grad for p in ranker.parameters() if p.requires_grad]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)

    def test_odd_texts_are_finite(self, ranker: Ranker) -> None:
        scores_QK = ranker.score(["river", "", ODD[1]], [ODD, ODD, ODD])
        assert scores_QK.isfinite().all()
        # One of six documents is longer than its cap, for three queries; no query is.
        assert (ranker.truncation.texts, ranker.truncation.truncated) == (21, 3)
        assert ranker.truncation.share == pytest.approx(3 / 21)

    def test_a_query_without_documents(self, ranker: Ranker) -> None:
        assert ranker.score(QUERIES, [[], ["river"]]).isneginf().tolist() == [[True], [False]]
        assert ranker.score([], []).shape == (0, 0)

    def test_each_text_is_cut_at_its_own_cap(self, ranker: Ranker) -> None:
        query, doc = ranker.tokenise(["river stone garden window " * 10, "silver forest bridge candle " * 30])
        whole = ranker.score_tokens([query], [[doc]])
        cut = ranker.score_tokens([query[:10]], [[doc[:40]]])
        np.testing.assert_array_equal(whole, cut)
        assert (whole != ranker.score_tokens([query[:9]], [[doc[:40]]])).all()
        assert (whole != ranker.score_tokens([query[:10]], [[doc[:39]]])).all()

    def test_bad_calls_say_so(self, ranker: Ranker) -> None:
        with pytest.raises(ValueError, match="one list per query"):
            ranker.score(["a", "b"], [["c"]])
        with pytest.raises(ValueError, match="bare string"):
            ranker.score(["a"], ["c"])
        for text in (None, 3):
            with pytest.raises(ValueError, match=f"document 1 of query 0 is {text}: give a text"):
                ranker.score(["a"], [["b", text]])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="query 0 is None"):
            ranker.score([None], [["b"]])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="documents of query 0 are 3"):
            ranker.score(["a"], [3])  # type: ignore[list-item]
        for wrong in (-1, 10**6):
            with pytest.raises(ValueError, match=f"token ids run from .*{wrong}.*, but the vocabulary has 0 to"):
                ranker.score_tokens([[5]], [[[5, wrong]]])
        with pytest.raises(ValueError, match="width is 1"):
            ranker.collate([[1]], [[[1], [2]]], width=1)

    def test_scoring_restores_training_mode(self, ranker: Ranker) -> None:
        ranker.train()
        scores = ranker.score(QUERIES, DOCS)
        assert ranker.training
        assert torch.equal(ranker.eval().score(QUERIES, DOCS), scores)
        assert not ranker.training

    def test_dropout_only_while_training(self, folder: Path, ranker: Ranker) -> None:
        dropped = self.make(folder, dropout=0.3).train()
        assert torch.equal(dropped.score(QUERIES, DOCS), ranker.score(QUERIES, DOCS))
        batch = dropped.collate(*self.tokens(dropped))
        if not self.drops:
            return
        first, second = dropped(batch)[batch.mask_QK], dropped(batch)[batch.mask_QK]
        assert not torch.equal(first, second)

    drops: ClassVar[bool] = True
    """Whether the backbone knows dropout at all."""

    def test_frozen_word_embeddings(self, folder: Path) -> None:
        frozen = self.make(folder, freeze_word_embeddings=True)
        free = self.make(folder)
        difference = {name for name, p in free.named_parameters() if p.requires_grad}
        difference -= {name for name, p in frozen.named_parameters() if p.requires_grad}
        assert len(difference) == 1
        assert "embed" in difference.pop()

    def test_gradient_checkpointing_changes_nothing(self, folder: Path, ranker: Ranker) -> None:
        results = []
        for one in (ranker, self.make(folder, gradient_checkpointing=True)):
            one.zero_grad()
            batch = one.collate(*self.tokens(one))
            scores = one.train()(batch)[batch.mask_QK]
            scores.square().sum().backward()
            results.append((scores, next(p.grad for p in one.parameters() if p.requires_grad)))
        torch.testing.assert_close(results[1][0], results[0][0])
        # Of the largest: on a CPU layers that keep all their states may sum in another order (`bert_layers`).
        largest = results[0][1].abs().max()
        torch.testing.assert_close(results[1][1] / largest, results[0][1] / largest, rtol=1e-4, atol=1e-5)

    def test_bfloat16(self, folder: Path, ranker: Ranker) -> None:
        expected = ranker.score(QUERIES, DOCS)
        scores = self.make(folder).for_scoring(torch.bfloat16).score(QUERIES, DOCS)
        real = expected.isfinite()
        scale = expected[real].abs().max().clamp(min=1.0)
        assert ((scores - expected)[real].abs() / scale).max() < BFLOAT16
        batch = ranker.collate(*self.tokens(ranker))
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = ranker.eval()(batch)
        assert under_autocast.dtype == torch.float32
        assert ((under_autocast - expected)[real].abs() / scale).max() < BFLOAT16

    def test_one_by_one_is_the_same_in_bfloat16(self, folder: Path) -> None:
        cast = self.make(folder).for_scoring(torch.bfloat16)
        scores_QK = cast.score(QUERIES, DOCS)
        alone_K = torch.cat([cast.score(QUERIES[1:], [[doc]])[0] for doc in DOCS[1]])
        scale = scores_QK[1].abs().max().clamp(min=1.0)
        assert ((alone_K - scores_QK[1]).abs() / scale).max() < BFLOAT16

    def test_blocks(self, ranker: Ranker) -> None:
        blocks = ranker.blocks()
        assert len(blocks) == self.num_blocks
        inside = set(ranker.modules())
        assert all(block in inside for block in blocks)
        assert len(blocks) == len(set(blocks))
        assert all(hasattr(ranker, name) for name in ranker.forward_methods)

    def test_kept_documents_give_the_same_scores(self, ranker: Ranker) -> None:
        if not ranker.separable:
            assert not hasattr(ranker, "encode_docs")
            return
        queries, docs = self.tokens(ranker)
        expected = ranker.score_tokens(queries, docs)
        with ranker.inference():
            query_reps = ranker.encode_queries(queries)
            doc_reps = ranker.encode_docs([ids for row in docs for ids in row])
            slots_QK = torch.tensor([[0, -1, -1], [1, 2, 3]])
            chosen_QK = ranker.interact(query_reps, doc_reps, slots_QK)
            all_QN = ranker.interact(query_reps, doc_reps)
        np.testing.assert_allclose(chosen_QK.numpy(), expected, rtol=FLOAT32, atol=FLOAT32)
        np.testing.assert_allclose(all_QN[1, 1:].numpy(), expected[1], rtol=FLOAT32, atol=FLOAT32)
