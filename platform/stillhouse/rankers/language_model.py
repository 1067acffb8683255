"""Pointwise re-rankers on language models that read from left to right: causal transformers and recurrent models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

from stillhouse.errors import BackboneError
from stillhouse.rankers import saving
from stillhouse.rankers.backbones import load_model, load_tokenizer, read_config, resolve
from stillhouse.rankers.batching import Template, Tokens, template_of
from stillhouse.rankers.heads import Float32Linear
from stillhouse.rankers.joint import JointRanker
from stillhouse.rankers.kinds import check_language_model
from stillhouse.recipe.base import Spec
from stillhouse.recipe.rankers import CausalLmSpec, RecurrentSpec


class LanguageModelRanker(JointRanker):
    """s = w . h_last, or logit(yes) - logit(no) at the last token of the prompt.

    Rows are padded on the right and the last real token is read, so that padding, batch and position change nothing.
    The parts of the template are tokenised apart from the texts: a text is cut at its own cap, the prompt never.
    """

    def __init__(self, spec: Any, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.head: Float32Linear | None = None
        if spec.head == "linear":
            self.head = Float32Linear(backbone.config.hidden_size, 1, bias=False)
        else:
            ids = [_token_id(tokenizer, token, spec.backbone) for token in (spec.yes_token, spec.no_token)]
            self.register_buffer("answers", torch.tensor(ids), persistent=False)

    @classmethod
    def _fresh_from(cls, spec: Any, seed: int) -> Self:
        return cls._opened(spec, resolve(spec.backbone)).draw_fresh(seed)

    @classmethod
    def _opened(cls, spec: Any, folder: Path) -> Self:
        config = read_config(folder, num_layers=spec.num_layers, dropout=spec.dropout)
        check_language_model(spec, config)
        auto_class = AutoModel if spec.head == "linear" else AutoModelForCausalLM
        return cls(spec, load_model(auto_class, folder, config, layers=spec.layers)[0], load_tokenizer(folder))

    def make_template(self) -> Template:
        """The prompt's own tokens; the query is text 0 and the document text 1 wherever the prompt puts them."""
        before, first, between, _, after = re.split(r"\{(query|document)\}", self.spec.template)
        self.document_first = first == "document"
        bos, eos = template_of(self.tokenizer, num_texts=1).specials[0], self.tokenizer.eos_token_id
        parts = [list(ids) for ids in self.tokenise([before, between, after])]
        if self.spec.append_eos and eos is None:
            raise BackboneError(
                f"{self.spec.backbone}: its tokenizer has no end-of-text token (eos_token); set append_eos: false and "
                "a template that ends with words of its own"
            )
        ending = [eos] if self.spec.append_eos else []
        if not (parts[2] or ending):
            raise BackboneError("template ends with a text and append_eos is off: there is no last token to read")
        specials = ((*bos, *parts[0]), tuple(parts[1]), (*parts[2], *ending))
        return Template(specials, tuple((0,) * len(part) for part in specials), (0, 0))

    def row(self, query: Any, doc: Any) -> Any:
        query, doc = query[: self.spec.query_max_length], doc[: self.spec.doc_max_length]
        return self.template.fill(doc, query) if self.document_first else self.template.fill(query, doc)

    def _score_rows(self, tokens: Tokens) -> Tensor:
        if hasattr(self.spec, "attention"):
            self.choose_attention(self.backbone)
        model = self.backbone.base_model
        hidden_PLD = model(input_ids=tokens.ids_PL, attention_mask=tokens.mask_PL, use_cache=False).last_hidden_state
        last_P = tokens.mask_PL.sum(1) - 1
        last_PD = hidden_PLD[torch.arange(len(last_P), device=last_P.device), last_P]
        if self.head is not None:
            scores_P1: Tensor = self.head(last_PD)
            return scores_P1[:, 0]
        return self._answer(last_PD)

    def _answer(self, last_PD: Tensor) -> Tensor:
        """logit(yes) - logit(no) as the model itself makes its logits, float32 [P]."""
        output = self.backbone.get_output_embeddings()
        answers = self.get_buffer("answers")
        yes_D, no_D = output.weight[answers].float()
        cap = _soft_cap(self.backbone.config)
        with torch.autocast(last_PD.device.type, enabled=False):
            if cap is None and output.bias is None:
                scores_P: Tensor = last_PD.float() @ (yes_D - no_D)
                return scores_P
            logits_P2 = last_PD.float() @ torch.stack([yes_D, no_D], dim=1)
            if output.bias is not None:
                logits_P2 = logits_P2 + output.bias[answers].float()
            if cap is not None:
                logits_P2 = cap * torch.tanh(logits_P2 / cap)
        return logits_P2[:, 0] - logits_P2[:, 1]

    def heads(self) -> list[nn.Module]:
        return [] if self.head is None else [self.head]

    def exported_modules(self) -> list[saving.LibraryModule] | None:
        return None

    def unexpressed(self) -> list[str]:
        return [f"ranker: {self.key}"]


class CausalLm(LanguageModelRanker):
    """A causal language model as pointwise re-ranker (Ma et al., arXiv:2310.08319)."""

    key: ClassVar[str] = "causal_lm"
    spec_class: ClassVar[type[Spec]] = CausalLmSpec


class Recurrent(LanguageModelRanker):
    """A state-space or linear-recurrent language model as pointwise re-ranker (Xu, arXiv:2403.18276)."""

    key: ClassVar[str] = "recurrent"
    spec_class: ClassVar[type[Spec]] = RecurrentSpec


def _soft_cap(config: Any) -> float | None:
    """c of models that bend their logits to c tanh(x / c): RecurrentGemma and Gemma 2 name it differently."""
    cap: float | None = getattr(config, "logits_soft_cap", None) or getattr(config, "final_logit_softcapping", None)
    return cap


def _token_id(tokenizer: Any, token: str, backbone: str) -> int:
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or number == tokenizer.unk_token_id:
        raise BackboneError(f"{backbone}: answer {token!r} is not one token of its vocabulary; choose another")
    return int(number)
