"""The cross-encoder (BERT_CAT; Nogueira and Cho, arXiv:1901.04085): one transformer over query and document."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

from stillhouse.errors import BackboneError
from stillhouse.rankers import bert_layers, saving
from stillhouse.rankers.backbones import load_model, load_tokenizer, read_config, resolve
from stillhouse.rankers.batching import Tokens
from stillhouse.rankers.encoder import encode, reads_types, states
from stillhouse.rankers.heads import Float32Linear, pool
from stillhouse.rankers.joint import JointRanker
from stillhouse.rankers.kinds import check_encoder
from stillhouse.recipe.rankers import CrossEncoderSpec


class CrossEncoder(JointRanker):
    """s = w . pool(T([CLS] q [SEP] d [SEP])) + b.

    `cls` and `mean` put a fresh linear layer on the bare encoder; `pooler` is the backbone's own classification head
    (BERT: dense + tanh + linear), as published cross-encoders have it.
    """

    key = "cross_encoder"
    spec_class = CrossEncoderSpec

    def __init__(self, spec: CrossEncoderSpec, backbone: Any, tokenizer: Any) -> None:
        super().__init__(spec, backbone, tokenizer)
        self.types = reads_types(backbone, tokenizer)
        if spec.pooling == "pooler":
            if backbone.config.num_labels != 1:
                raise BackboneError(
                    f"{spec.backbone}: the head gives {backbone.config.num_labels} numbers; a ranker's head gives 1"
                )
            self.head: Float32Linear | None = None
            for module in self._own_head():
                if type(module) is nn.Linear:
                    module.__class__ = Float32Linear
        else:
            self.head = Float32Linear(backbone.config.hidden_size, 1)

    @classmethod
    def _load(cls, spec: CrossEncoderSpec, folder: Path, *, fresh_head: bool) -> tuple[Self, set[str]]:
        config = read_config(folder, num_layers=spec.num_layers, dropout=spec.dropout)
        check_encoder(spec, config)
        auto_class = AutoModel
        if spec.pooling == "pooler":
            auto_class = AutoModelForSequenceClassification
            if fresh_head and not _has_head(config):
                config.num_labels = 1
        backbone, missing = load_model(auto_class, folder, config, layers=spec.layers, fresh_head=fresh_head)
        return cls(spec, backbone, load_tokenizer(folder)), missing

    @classmethod
    def _fresh_from(cls, spec: CrossEncoderSpec, seed: int) -> Self:
        ranker, missing = cls._load(spec, resolve(spec.backbone), fresh_head=True)
        return ranker.draw_fresh(seed, missing)

    @classmethod
    def _opened(cls, spec: CrossEncoderSpec, folder: Path) -> Self:
        return cls._load(spec, folder, fresh_head=False)[0]

    def _score_rows(self, tokens: Tokens) -> Tensor:
        if self.head is None:
            return self._own_logits(tokens)[:, 0].float()
        hidden_PLD = self._states(tokens, first_only=self.spec.pooling == "cls")
        scores_P1: Tensor = self.head(pool(hidden_PLD, tokens.mask_PL, self.spec.pooling))
        return scores_P1[:, 0]

    def _own_logits(self, tokens: Tokens) -> Tensor:
        """What the backbone's own head says, [P, 1]; every head that BERT-like models have reads the first token."""
        if self.spec.attention == "auto" and bert_layers.covers(self.backbone.base_model):
            return bert_layers.head_logits(self.backbone, self._states(tokens, first_only=True))
        self.choose_attention(self.backbone)
        logits_P1: Tensor = encode(self.backbone, tokens, types=self.types).logits
        return logits_P1

    def hidden_states(self, tokens: Tokens, side: str) -> Tensor:
        return self._states(tokens, first_only=False)

    def _states(self, tokens: Tokens, *, first_only: bool) -> Tensor:
        self.choose_attention(self.backbone)
        model, attention = self.backbone.base_model, self.spec.attention
        return states(model, tokens, types=self.types, attention=attention, first_only=first_only)

    def _own_head(self) -> list[nn.Module]:
        """Every module of a classification model that is not its encoder, and the pooler inside the encoder."""
        encoder = self.backbone.base_model
        pooler = getattr(encoder, "pooler", None)
        inside = set(encoder.modules()) - (set(pooler.modules()) if pooler is not None else set())
        return [module for module in self.backbone.modules() if module not in inside and module is not self.backbone]

    def heads(self) -> list[nn.Module]:
        return self._own_head() if self.head is None else [self.head]

    def exported_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        task = "feature-extraction" if self.spec.pooling != "pooler" else "sequence-classification"
        model = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
        return model, {"transformer_task": task}

    def exported_modules(self) -> list[saving.LibraryModule]:
        if self.head is None:
            return []
        width = self.backbone.config.hidden_size
        return [
            saving.pooling(width, self.spec.pooling),
            saving.dense(self.head.weight, self.head.bias, reads="sentence_embedding", writes="scores"),
        ]


def _has_head(config: Any) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ())
