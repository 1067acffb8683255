"""Late interaction (ColBERT; Khattab and Zaharia, arXiv:2004.12832): one vector per token, sums of maxima."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stillhouse.errors import BackboneError
from stillhouse.rankers import saving
from stillhouse.rankers.backbones import load_tokenizer, resolve
from stillhouse.rankers.batching import Ids, Row, Tokens, pad
from stillhouse.rankers.encoder import load_encoder, reads_types, states
from stillhouse.rankers.heads import Float32Linear
from stillhouse.rankers.reps import Vectors
from stillhouse.rankers.separable import SeparableRanker
from stillhouse.recipe.rankers import ColbertSpec

EXPANSION = -1
"""Segment that marks a MASK token added to a query."""


class Colbert(SeparableRanker):
    """s = sum over query tokens i of max over document tokens j of <q_i, d_j> (or the mean over i).

    Queries get MASK tokens after their closing special token; all query tokens are scored, special ones too.
    """

    key = "colbert"
    spec_class = ColbertSpec

    def __init__(self, spec: ColbertSpec, backbone: Any, tokenizer: Any) -> None:
        self.markers = {"query": _marker(tokenizer, spec.query_marker), "doc": _marker(tokenizer, spec.doc_marker)}
        self.expands = spec.mask_mode == "pad_to_length" or spec.num_mask_tokens > 0
        if self.expands and tokenizer.mask_token_id is None:
            raise BackboneError(f"{spec.backbone}: its tokenizer has no MASK token; set num_mask_tokens: 0")
        super().__init__(spec, backbone, tokenizer)
        self.types = reads_types(backbone, tokenizer)
        self.projection: nn.Module = nn.Identity()
        if spec.projection_dim is not None:
            self.projection = Float32Linear(backbone.config.hidden_size, spec.projection_dim, bias=False)
        known = [tokenizer.convert_tokens_to_ids(symbol) for symbol in string.punctuation]
        skipped = [token for token in known if token not in (None, tokenizer.unk_token_id)]
        self.register_buffer("skipped", torch.tensor(skipped), persistent=False)

    @classmethod
    def _fresh_from(cls, spec: ColbertSpec, seed: int) -> Self:
        return cls._opened(spec, resolve(spec.backbone)).draw_fresh(seed)

    @classmethod
    def _opened(cls, spec: ColbertSpec, folder: Path) -> Self:
        return cls(spec, load_encoder(spec, folder), load_tokenizer(folder))

    def row(self, ids: Ids, side: str) -> Row:
        tokens, types = super().row(ids, side)
        if side == "query" and self.expands:
            full = self.spec.query_max_length + self.template.num_special
            missing = full - len(tokens) if self.spec.mask_mode == "pad_to_length" else self.spec.num_mask_tokens
            tokens = tokens + [self.tokenizer.mask_token_id] * missing
            types = types + [EXPANSION] * missing
        marker = self.markers[side]
        if marker is not None:
            place = len(self.template.specials[0])
            tokens = [*tokens[:place], marker, *tokens[place:]]
            types = [*types[:place], 0, *types[place:]]
        return tokens, types

    def pad(self, rows: Sequence[Row]) -> Tokens:
        return pad(rows, self.pad_id, self.max_positions)

    def _encode(self, tokens: Tokens, side: str) -> Vectors:
        values_PLD = self.projection(self.hidden_states(tokens, side)).float()
        if self.spec.similarity == "cosine":
            values_PLD = normalize(values_PLD, dim=-1)
        scored_PL = tokens.mask_PL.bool()
        if side == "doc" and self.spec.skip_punctuation:
            scored_PL = scored_PL & ~torch.isin(tokens.ids_PL, self.get_buffer("skipped"))
        return Vectors(values_PLD, scored_PL)

    def hidden_states(self, tokens: Tokens, side: str) -> Tensor:
        self.choose_attention(self.backbone)
        expansion_PL = tokens.types_PL == EXPANSION
        seen_PL = tokens.mask_PL if self.spec.attend_to_masks else tokens.mask_PL * ~expansion_PL
        seen = Tokens(tokens.ids_PL, seen_PL, tokens.types_PL.clamp(min=0))
        return states(self.backbone, seen, types=self.types, attention=self.spec.attention)

    def _compare(self, queries: Any, docs: Any) -> Tensor:
        with torch.autocast(queries.values_NLD.device.type, enabled=False):
            match_NLM = queries.values_NLD @ docs.values_NLD.transpose(1, 2)
        best_NL = match_NLM.masked_fill(~docs.mask_NL[:, None], float("-inf")).amax(-1)
        # A product with the mask would turn a document without scored tokens into NaN.
        scores_N: Tensor = best_NL.masked_fill(~queries.mask_NL, 0.0).sum(-1)
        if self.spec.aggregation == "mean":
            scores_N = scores_N / queries.mask_NL.sum(-1)
        return scores_N

    def _compare_all(self, queries: Any, docs: Any) -> Tensor:
        # Query by query: one product with all documents' vectors, and no copy of them for each pair.
        rows = []
        with torch.autocast(queries.values_NLD.device.type, enabled=False):
            for query_LD, mask_L in zip(queries.values_NLD, queries.mask_NL, strict=True):
                match_NML = docs.values_NLD @ query_LD[mask_L].T
                rows.append(match_NML.masked_fill(~docs.mask_NL[:, :, None], float("-inf")).amax(1).sum(-1))
        scores_QN = torch.stack(rows) if rows else docs.values_NLD.new_empty(0, len(docs))
        if self.spec.aggregation == "mean":
            scores_QN = scores_QN / queries.mask_NL.sum(-1, keepdim=True)
        return scores_QN

    def heads(self) -> list[nn.Module]:
        return [self.projection]

    def unexpressed(self) -> list[str]:
        if self.spec.mask_mode == "append_n" and self.spec.num_mask_tokens > 0:
            return [f"mask_mode: append_n with {self.spec.num_mask_tokens} MASK tokens"]
        return []

    def exported_modules(self) -> list[saving.LibraryModule] | None:
        if self.unexpressed():
            return None
        name = "token_embeddings"
        modules = []
        if isinstance(self.projection, Float32Linear):
            modules.append(saving.dense(self.projection.weight, None, reads=name, writes=name))
        if self.spec.similarity == "cosine":
            modules.append(saving.LibraryModule("Normalize", {"module_input_name": name, "module_output_name": name}))
        skipped = list(string.punctuation) if self.spec.skip_punctuation else []
        package = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask"
        config = {"skiplist_words": skipped, "skiplist_tasks": ["document"], "keep_only_token_ids": None}
        modules.append(saving.LibraryModule("MultiVectorMask", config, package=package))
        return modules

    def exported_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        spec, special = self.spec, self.template.num_special
        query_length = spec.query_max_length + special + (self.markers["query"] is not None)
        doc_length = spec.doc_max_length + special + (self.markers["doc"] is not None)
        first: dict[str, Any] = {"transformer_task": "feature-extraction", "document_length": doc_length}
        if spec.mask_mode == "pad_to_length":
            expansion = {"strategy": "fixed", "length": query_length, "attend": spec.attend_to_masks, "token": None}
            first["query_expansion"] = expansion
        else:
            first["query_length"] = query_length
        similarity = "maxsim" if spec.aggregation == "sum" else "meanmaxsim"
        prompts = {"query": spec.query_marker or "", "document": spec.doc_marker or ""}
        return {"model_type": "MultiVectorEncoder", "similarity_fn_name": similarity, "prompts": prompts}, first


def _marker(tokenizer: Any, token: str | None) -> int | None:
    """Id of a marker, registered as special so that text with it in front gives the same ids elsewhere."""
    if token is None:
        return None
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or number == tokenizer.unk_token_id:
        raise BackboneError(f"marker {token!r} is not in the tokenizer's vocabulary; take one that is, e.g. [unused0]")
    tokenizer.add_special_tokens({"additional_special_tokens": [token]}, replace_extra_special_tokens=False)
    return int(number)
