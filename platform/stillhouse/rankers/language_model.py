"""Pointwise re-rankers on language models that read from left to right: causal transformers and recurrent models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

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
from stillhouse.rankers.prompt import SlotReader, parse_prompt
from stillhouse.rankers.skeleton import stored_tensor
from stillhouse.recipe.base import Spec
from stillhouse.recipe.rankers import CausalLmSpec, RecurrentSpec

if TYPE_CHECKING:
    from stillhouse.collection.tokens import Tokeniser

_SCORE = "score.weight"
"""The head of a causal model for sequence classification."""


class LanguageModelRanker(JointRanker):
    """s = w . h_last, or logit(yes) - logit(no), or logit(yes), at the last token of the prompt.

    Rows are padded on the right and the last real token is read, so that padding, batch and position change nothing.
    A text is cut at its own cap, the prompt never; `prompt.py` says which of the prompt is tokenised with a text.
    """

    def __init__(self, spec: Any, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.head: Float32Linear | None = None
        if spec.head == "linear":
            self.head = Float32Linear(backbone.config.hidden_size, 1, bias=False)
        else:
            answers = [token for token in (spec.yes_token, spec.no_token) if token is not None]
            ids = [_token_id(tokenizer, token, spec.backbone) for token in answers]
            self.register_buffer("answers", torch.tensor(ids), persistent=False)

    @classmethod
    def _fresh_from(cls, spec: Any, seed: int) -> Self:
        folder = resolve(spec.backbone)
        ranker = cls._opened(spec, folder).draw_fresh(seed)
        if ranker.head is not None and (weight := stored_tensor(folder, _SCORE)) is not None:
            if weight.shape != ranker.head.weight.shape:
                raise BackboneError(
                    f"{spec.backbone}: {_SCORE} is {tuple(weight.shape)}, but a ranker's head gives 1 number"
                )
            ranker.head.weight.data = weight.float()
            ranker._fresh -= {"head.weight"}
        return ranker

    @classmethod
    def _opened(cls, spec: Any, folder: Path) -> Self:
        config = read_config(folder, num_layers=spec.num_layers, dropout=spec.dropout)
        check_language_model(spec, config)
        auto_class = AutoModel if spec.head == "linear" else AutoModelForCausalLM
        return cls(spec, load_model(auto_class, folder, config, layers=spec.layers)[0], load_tokenizer(folder))

    def make_template(self) -> Template:
        """The prompt's own tokens; the query is text 0 and the document text 1 wherever the prompt puts them."""
        self.prompt = parse_prompt(self.spec.template, self.spec.joined)
        bos, eos = template_of(self.tokenizer, num_texts=1).specials[0], self.tokenizer.eos_token_id
        if self.spec.append_eos and eos is None:
            raise BackboneError(
                f"{self.spec.backbone}: its tokenizer has no end-of-text token (eos_token); set append_eos: false and "
                "a template that ends with words of its own"
            )
        parts = self.tokenise(self.prompt.literals)
        ending = [eos] if self.spec.append_eos else []
        if not (parts[2] or ending or self.spec.joined != "none"):
            raise BackboneError("template ends with a text and append_eos is off: there is no last token to read")
        specials = ((*bos, *parts[0]), tuple(parts[1]), (*parts[2], *ending))
        self.breaks = {side: self.tokenise([self.prompt.slot(side).after])[0] for side in ("query", "doc")}
        return Template(specials, tuple((0,) * len(part) for part in specials), (0, 0))

    def reader(self, side: str) -> Tokeniser:
        if self.spec.joined == "none":
            return self
        return SlotReader(self.prompt.slot(side), self.tokenise, self.tokenizer_digest)

    def row(self, query: Any, doc: Any) -> Any:
        query = self._cut("query", query, self.spec.query_max_length)
        doc = self._cut("doc", doc, self.spec.doc_max_length)
        return self.template.fill(doc, query) if self.prompt.document_first else self.template.fill(query, doc)

    def _cut(self, side: str, ids: Any, cap: int) -> Any:
        """The first `cap` ids; the line breaks after a text belong to the prompt and stay."""
        if len(ids) <= cap or not self.breaks[side]:
            return ids[:cap]
        return [*list(ids[:cap]), *self.breaks[side]]

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
        """logit(yes) - logit(no), or logit(yes) without a no, as the model itself makes its logits; float32 [P]."""
        output, config = self.backbone.get_output_embeddings(), self.backbone.config
        answers = self.get_buffer("answers")
        answer_AD = output.weight[answers].float()
        cap = _soft_cap(config)
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        with torch.autocast(last_PD.device.type, enabled=False):
            if len(answers) == 2 and cap is None and output.bias is None and scale == 1:
                scores_P: Tensor = last_PD.float() @ (answer_AD[0] - answer_AD[1])
                return scores_P
            logits_PA = last_PD.float() @ answer_AD.T
            if output.bias is not None:
                logits_PA = logits_PA + output.bias[answers].float()
            logits_PA = scale * logits_PA
            if cap is not None:
                logits_PA = cap * torch.tanh(logits_PA / cap)
        yes_P: Tensor = logits_PA[:, 0]
        return yes_P - logits_PA[:, 1] if len(answers) == 2 else yes_P

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
