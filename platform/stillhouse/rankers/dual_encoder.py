"""The dual encoder (BERT_DOT; Karpukhin et al., arXiv:2004.04906): one vector per text, one product per pair."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stillhouse.rankers import saving
from stillhouse.rankers.backbones import load_tokenizer, resolve
from stillhouse.rankers.batching import Batch, Tokens
from stillhouse.rankers.encoder import load_encoder, reads_types, states
from stillhouse.rankers.heads import Float32LayerNorm, Float32Linear, Float32Scale, pool
from stillhouse.rankers.separable import SeparableRanker
from stillhouse.recipe.rankers import DualEncoderSpec


class DualEncoder(SeparableRanker):
    """s = scale * <head(pool(T(q))), head(pool(T(d)))>; cosine divides each vector by its length first.

    head: optional projection, then optional LayerNorm and dropout (Menon et al., App. B), shared by both sides.
    """

    key = "dual_encoder"
    spec_class = DualEncoderSpec
    forward_methods = (*SeparableRanker.forward_methods, "encode_batch")

    def __init__(self, spec: DualEncoderSpec, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.types = reads_types(backbone, tokenizer)
        if not spec.tied:
            self.doc_backbone = copy.deepcopy(backbone)
        width = backbone.config.hidden_size
        self.projection: nn.Module = nn.Identity()
        if spec.projection_dim is not None:
            self.projection = Float32Linear(width, spec.projection_dim, bias=False)
            width = spec.projection_dim
        self.norm: nn.Module = Float32LayerNorm(width) if spec.output_layer_norm else nn.Identity()
        self.dropout = nn.Dropout(spec.output_dropout)
        self.scale = Float32Scale(spec.score_scale, learn=spec.learn_score_scale)

    @classmethod
    def _fresh_from(cls, spec: DualEncoderSpec, seed: int) -> Self:
        folder = resolve(spec.backbone)
        ranker = cls(spec, load_encoder(spec, folder), load_tokenizer(folder))
        return ranker.draw_fresh(seed)

    def preset_parameters(self) -> set[str]:
        return {"scale.log_scale"}

    @classmethod
    def _opened(cls, spec: DualEncoderSpec, folder: Path) -> Self:
        ranker = cls(spec, load_encoder(spec, folder), load_tokenizer(folder))
        if not spec.tied:
            trained = load_encoder(spec, folder / "doc_encoder")
            ranker.doc_backbone.load_state_dict(trained.state_dict())
        return ranker

    def backbones(self) -> dict[str, Any]:
        return {"": "backbone"} if self.spec.tied else {"": "backbone", "doc_encoder": "doc_backbone"}

    def _encode(self, tokens: Tokens, side: str) -> Tensor:
        hidden_PLD = self._states(tokens, side, first_only=self.spec.pooling == "cls")
        reps_PD = self.dropout(self.norm(self.projection(pool(hidden_PLD, tokens.mask_PL, self.spec.pooling))))
        return normalize(reps_PD, dim=-1) if self.spec.similarity == "cosine" else reps_PD

    def encoder_of(self, side: str) -> Any:
        return self.backbone if side == "query" or self.spec.tied else self.doc_backbone

    def hidden_states(self, tokens: Tokens, side: str) -> Tensor:
        return self._states(tokens, side, first_only=False)

    def _states(self, tokens: Tokens, side: str, *, first_only: bool) -> Tensor:
        model = self.encoder_of(side)
        self.choose_attention(model)
        return states(model, tokens, types=self.types, attention=self.spec.attention, first_only=first_only)

    def encode_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of a collated batch: queries [Q, D] and documents [Q * K, D] by slot, zeros in padded slots.

        As many forwards as `forward` makes, so the same on every rank.
        """
        if batch.queries is None:
            raise ValueError("this batch has no queries of its own: collate it with this ranker")
        query_reps = self._encode(batch.queries, "query")
        slots = torch.cat([piece.slots_P for piece in batch.pieces])
        vectors = torch.cat([self._encode(piece.tokens, "doc") for piece in batch.pieces])
        # Dummies share the last row, which is cut: they stay in the graph and get no gradient.
        rows = vectors.new_zeros(batch.mask_QK.numel() + 1, vectors.shape[1]).index_put((slots,), vectors)
        return query_reps, rows[:-1]

    def _compare(self, queries: Any, docs: Any) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            scores_N: Tensor = self.scale((queries * docs).sum(-1))
        return scores_N

    def _compare_all(self, queries: Any, docs: Any) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            scores_QN: Tensor = self.scale(queries @ docs.T)
        return scores_QN

    def heads(self) -> list[nn.Module]:
        return [self.projection, self.norm, self.scale]

    def exported_modules(self) -> list[saving.LibraryModule] | None:
        if self.unexpressed():
            return None
        modules = [saving.pooling(self.backbone.config.hidden_size, self.spec.pooling)]
        if isinstance(self.projection, Float32Linear):
            name = "sentence_embedding"
            modules.append(saving.dense(self.projection.weight, None, reads=name, writes=name))
        if isinstance(self.norm, Float32LayerNorm):
            modules.append(saving.layer_norm(self.norm.weight, self.norm.bias))
        if self.spec.similarity == "cosine":
            modules.append(saving.normalize())
        return modules

    def unexpressed(self) -> list[str]:
        names = []
        if not self.spec.tied:
            names.append("tied: false")
        if self.spec.learn_score_scale or self.spec.score_scale != 1.0:
            names.append(f"score_scale {self.scale.value():g}")
        return names

    def exported_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        special = self.template.num_special
        first = {
            "transformer_task": "feature-extraction",
            "query_length": self.spec.query_max_length + special,
            "document_length": self.spec.doc_max_length + special,
        }
        model = {"model_type": "SentenceTransformer", "similarity_fn_name": self.spec.similarity}
        return model, first
