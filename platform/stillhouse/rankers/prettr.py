"""PreTTR (MacAvaney et al., arXiv:2004.14255): the first layers read query and document apart, the others together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from stillhouse.errors import BackboneError
from stillhouse.rankers import saving
from stillhouse.rankers.backbones import layers_of, load_tokenizer, resolve
from stillhouse.rankers.batching import Ids, Row, Tokens, budget_batches
from stillhouse.rankers.encoder import load_encoder, reads_types
from stillhouse.rankers.heads import Float32Linear, pool
from stillhouse.rankers.joint import JointRanker
from stillhouse.rankers.reps import Vectors, concatenate
from stillhouse.recipe.rankers import PrettrSpec

SUPPORTED = ("bert", "roberta", "xlm-roberta", "electra", "distilbert")


class Prettr(JointRanker):
    """s = w . pool(T_rest([T_first(query); T_first(document)])) + b.

    With b separate layers the document's positions start behind the longest query allowed, so that its states do not
    depend on the query and can be kept: `encode_docs`, then `interact`. With b = 0 positions run on, as in BERT_CAT.
    """

    key = "prettr"
    spec_class = PrettrSpec
    forward_methods = ("score_rows", "encode_queries", "encode_docs", "interact")

    def __init__(self, spec: PrettrSpec, backbone: Any, tokenizer: Any) -> None:
        if backbone.config.model_type not in SUPPORTED:
            raise BackboneError(
                f"{spec.backbone}: prettr runs on {', '.join(SUPPORTED)}, not {backbone.config.model_type}"
            )
        if spec.num_separate_layers >= backbone.config.num_hidden_layers:
            raise BackboneError(
                f"{spec.backbone}: num_separate_layers is {spec.num_separate_layers}, "
                f"but of {backbone.config.num_hidden_layers} layers at least one must be joint"
            )
        super().__init__(spec, backbone, tokenizer)
        self.types = reads_types(backbone, tokenizer)
        self.separable = spec.num_separate_layers > 0
        self.head = Float32Linear(backbone.config.hidden_size, 1)

    @classmethod
    def _fresh_from(cls, spec: PrettrSpec, seed: int) -> Self:
        return cls._opened(spec, resolve(spec.backbone)).draw_fresh(seed)

    @classmethod
    def _opened(cls, spec: PrettrSpec, folder: Path) -> Self:
        return cls(spec, load_encoder(spec, folder), load_tokenizer(folder))

    def _score_rows(self, tokens: Tokens) -> Tensor:
        return self._score(self.hidden_states(tokens, "doc"), tokens.mask_PL)

    def hidden_states(self, tokens: Tokens, side: str) -> Tensor:
        segment_PL = tokens.types_PL
        joint_PLL = (tokens.mask_PL[:, None, :] > 0).expand(-1, tokens.mask_PL.shape[1], -1)
        apart_PLL = joint_PLL & (segment_PL[:, :, None] == segment_PL[:, None, :])
        return self._rest(self._first(self._embed(tokens), apart_PLL), joint_PLL)

    def _embed(self, tokens: Tokens) -> Tensor:
        """Input embeddings [P, L, D] at the positions described above."""
        embeddings = self.backbone.embeddings
        place_PL = torch.arange(tokens.ids_PL.shape[1], device=self.device).expand_as(tokens.ids_PL)
        if self.spec.num_separate_layers > 0:
            is_doc_PL = (tokens.types_PL == 1) & (tokens.mask_PL > 0)
            before_P1 = ((tokens.types_PL == 0) & (tokens.mask_PL > 0)).sum(1, keepdim=True)
            place_PL = torch.where(is_doc_PL, place_PL - before_P1 + self._query_room(), place_PL)
        offset = 0
        if self.backbone.config.model_type in ("roberta", "xlm-roberta"):
            offset = self.backbone.config.pad_token_id + 1
        arguments: dict[str, Any] = {"position_ids": place_PL + offset}
        if self.types:
            arguments["token_type_ids"] = tokens.types_PL
        hidden_PLD: Tensor = embeddings(tokens.ids_PL, **arguments)
        projected = getattr(self.backbone, "embeddings_project", None)
        return hidden_PLD if projected is None else projected(hidden_PLD)

    def _query_room(self) -> int:
        """Positions kept free for the longest query with its special tokens."""
        return len(self._query_row([0] * self.spec.query_max_length)[0])

    def _first(self, hidden_PLD: Tensor, allowed_PLL: Tensor) -> Tensor:
        return self._run(layers_of(self.backbone)[: self.spec.num_separate_layers], hidden_PLD, allowed_PLL)

    def _rest(self, hidden_PLD: Tensor, allowed_PLL: Tensor) -> Tensor:
        return self._run(layers_of(self.backbone)[self.spec.num_separate_layers :], hidden_PLD, allowed_PLL)

    def _score(self, hidden_PLD: Tensor, mask_PL: Tensor) -> Tensor:
        scores_P1: Tensor = self.head(pool(hidden_PLD, mask_PL, self.spec.pooling))
        return scores_P1[:, 0]

    def _run(self, layers: Sequence[nn.Module], hidden_PLD: Tensor, allowed_PLL: Tensor) -> Tensor:
        self.choose_attention(self.backbone)
        # The lowest number instead of -inf: a padded row without any allowed key must not become NaN.
        bias_P1LL = torch.zeros(allowed_PLL.shape, dtype=hidden_PLD.dtype, device=hidden_PLD.device)
        bias_P1LL = bias_P1LL.masked_fill(~allowed_PLL, torch.finfo(hidden_PLD.dtype).min).unsqueeze(1)
        for layer in layers:
            output = layer(hidden_PLD, bias_P1LL)
            hidden_PLD = output[0] if isinstance(output, tuple) else output
        return hidden_PLD

    # Kept documents

    def _query_row(self, ids: Ids) -> Row:
        """The query's part of a joint row."""
        joined, types = self.row(ids, [])
        size = types.index(1) if 1 in types else len(types)
        return joined[:size], types[:size]

    def _doc_row(self, ids: Ids) -> Row:
        joined, types = self.row([], ids)
        start = types.index(1)
        return joined[start:], types[start:]

    def _states(self, rows: Sequence[Row], token_budget: int) -> Vectors:
        if self.spec.num_separate_layers == 0:
            raise BackboneError("prettr with num_separate_layers 0 has no states to keep: set it to 1 or more")
        places: list[int] = []
        parts = []
        for batch in budget_batches([len(ids) for ids, _ in rows], token_budget):
            tokens = self.pad([rows[place] for place in batch]).to(self.device)
            allowed_PLL = (tokens.mask_PL[:, None, :] > 0).expand(-1, tokens.mask_PL.shape[1], -1)
            parts.append(Vectors(self._first(self._embed(tokens), allowed_PLL), tokens.mask_PL.bool()))
            places += batch
        states = concatenate(parts)
        assert isinstance(states, Vectors)
        return states[torch.tensor(places, device=self.device).argsort()]

    def encode_queries(self, queries: Sequence[Ids], *, token_budget: int = 2_048) -> Vectors:
        """States of uncapped content ids after the separate layers."""
        return self._states([self._query_row(ids) for ids in queries], token_budget)

    def encode_docs(self, docs: Sequence[Ids], *, token_budget: int = 2_048) -> Vectors:
        """States of uncapped content ids after the separate layers; they depend on no query."""
        return self._states([self._doc_row(ids) for ids in docs], token_budget)

    def interact(self, queries: Vectors, docs: Vectors, slots_QK: Tensor | None = None) -> Tensor:
        """Scores of kept states: [Q, N] of every pair, or [Q, K] of document `slots_QK[q, k]` (-1: padded)."""
        if slots_QK is None:
            slots_QK = torch.arange(len(docs), device=self.device).expand(len(queries), -1)
        scores_QK = torch.full(slots_QK.shape, float("-inf"), device=self.device)
        for number, slots_K in enumerate(slots_QK):
            real_K = slots_K >= 0
            if bool(real_K.any()):
                chosen = docs[slots_K[real_K]]
                query = queries[torch.full((len(chosen),), number, device=self.device)]
                hidden_PLD = torch.cat([query.values_NLD, chosen.values_NLD], dim=1)
                mask_PL = torch.cat([query.mask_NL, chosen.mask_NL], dim=1)
                allowed_PLL = mask_PL[:, None, :].expand(-1, mask_PL.shape[1], -1)
                scores_QK[number, real_K] = self._score(self._rest(hidden_PLD, allowed_PLL), mask_PL.long())
        return scores_QK

    def heads(self) -> list[nn.Module]:
        return [self.head]

    def unexpressed(self) -> list[str]:
        return [f"num_separate_layers: {self.spec.num_separate_layers}"] if self.spec.num_separate_layers else []

    def exported_modules(self) -> list[saving.LibraryModule] | None:
        if self.unexpressed():
            return None
        dense = saving.dense(self.head.weight, self.head.bias, reads="sentence_embedding", writes="scores")
        return [saving.pooling(self.backbone.config.hidden_size, self.spec.pooling), dense]

    def exported_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        model = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
        return model, {"transformer_task": "feature-extraction"}
