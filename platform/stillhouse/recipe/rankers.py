"""What a recipe can say about a ranker: one class per architecture of `stillhouse.rankers.RANKERS`.

Kept apart from the modules so that reading a recipe needs no torch; a test compares both.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillhouse.recipe.base import Spec

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Layers = Annotated[int, Field(ge=1, le=1_000)]
# Not strict about list against tuple: a list is what YAML and JSON give.
ChosenLayers = Annotated[tuple[Annotated[int, Field(ge=0, lt=1_000)], ...], Field(strict=False, min_length=1)]


class _Ranker(Spec):
    backbone: str
    """Folder, hub name, or `minilm` (the weights of the extra `demo`)."""
    query_max_length: Tokens = 64
    """Cap on a query's own tokens, special tokens not counted."""
    doc_max_length: Tokens = 256
    """Cap on a document's own tokens, special tokens not counted."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout inside the backbone while it trains."""
    freeze_word_embeddings: bool = False
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer in training and compute the rest again: less memory, more time."""
    # Left out of dumps where it is off: keys of what was made without it stay as they are.
    compile: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Compile each layer with torch.compile at its first use (minutes, then faster); needs a C++ compiler."""


class LoraSpec(Spec):
    """Low-rank updates of frozen weights: W + (alpha / rank) B A (Hu et al., arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=65_536)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On the input of A while it trains."""
    target: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = "all-linear"
    """Names of linear layers inside the transformer blocks, e.g. `[q_proj, v_proj]`; `all-linear` takes every one."""


class _Layered(_Ranker):
    num_layers: Layers | None = None
    """Keep only the first layers of the backbone; None keeps all."""
    # Left out of dumps where it is not used, as `compile` is.
    lora: Annotated[LoraSpec | None, Field(exclude_if=lambda value: value is None)] = None
    """Freeze the backbone and train low-rank adapters and the head (extra `lora`); None trains all weights."""
    layers: Annotated[ChosenLayers | None, Field(exclude_if=lambda value: value is None)] = None
    """Keep these layers of the backbone, counted from 0, e.g. `[0, 2, 5]` of a teacher's folder; None keeps all."""

    @model_validator(mode="after")
    def _layers_in_order(self) -> Self:
        if self.layers is not None:
            if self.num_layers is not None:
                raise ValueError("num_layers and layers are both set: give one")
            if list(self.layers) != sorted(set(self.layers)):
                raise ValueError(f"layers {list(self.layers)} must rise, each layer once")
        return self


class _Transformer(_Layered):
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """`auto`: eager on CPU (BERT-like encoders: layers written out for it), where it is faster, sdpa elsewhere."""


class CrossEncoderSpec(_Transformer):
    """Query and document read together (BERT_CAT)."""

    ranker: Literal["cross_encoder"]
    pooling: Literal["cls", "mean", "pooler"] = "cls"
    """What the linear head reads; `pooler` is the backbone's own dense + tanh over CLS."""


class DualEncoderSpec(_Transformer):
    """Query and document read apart, compared by one product (BERT_DOT)."""

    ranker: Literal["dual_encoder"]
    pooling: Literal["cls", "mean"] = "mean"
    similarity: Literal["dot", "cosine"] = "dot"
    score_scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the product: cosines in [-1, 1] cannot match softened teacher scores without one."""
    learn_score_scale: bool = False
    tied: bool = True
    """One encoder for both sides; False gives each side its own copy."""
    projection_dim: Annotated[int, Field(ge=1)] | None = None
    output_layer_norm: bool = False
    """LayerNorm after pooling (Menon et al., App. B)."""
    output_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ColbertSpec(_Transformer):
    """One vector per token, compared by sums of maxima (late interaction; Khattab and Zaharia, arXiv:2004.12832)."""

    ranker: Literal["colbert"]
    projection_dim: Annotated[int, Field(ge=1)] | None = None
    """Size of a token's vector; None keeps the backbone's, without a linear layer."""
    similarity: Literal["dot", "cosine"] = "dot"
    aggregation: Literal["sum", "mean"] = "sum"
    """Over query tokens; `mean` divides by their number (Menon et al., section 5.1)."""
    mask_mode: Literal["append_n", "pad_to_length"] = "append_n"
    """`append_n`: `num_mask_tokens` after every query; `pad_to_length`: up to the query cap, as the original does."""
    num_mask_tokens: Annotated[int, Field(ge=0, le=512)] = 8
    """MASK tokens of `append_n` (Hofstaetter et al. use 8, regardless of padding)."""
    attend_to_masks: bool = True
    """Whether other tokens see the MASK tokens; they are scored in any case."""
    skip_punctuation: bool = False
    """Leave punctuation tokens of documents out of the maxima."""
    query_marker: str | None = None
    """Token put after the first special token of queries, e.g. `[unused0]`."""
    doc_marker: str | None = None


class PrettrSpec(_Transformer):
    """The first layers apart, the others together, so that document states can be kept (PreTTR, arXiv:2004.14255)."""

    ranker: Literal["prettr"]
    pooling: Literal["cls", "mean"] = "cls"
    num_separate_layers: Annotated[int, Field(ge=0, le=1_000)] = 3
    """b: layers in which query and document do not see each other; 0 is the cross-encoder."""


class TkSpec(_Ranker):
    """Contextualised word vectors compared by Gaussian kernels (Transformer-Kernel, arXiv:2002.01854)."""

    ranker: Literal["tk"]
    embedding_dim: Annotated[int, Field(ge=2)] | None = None
    """None starts from the backbone's word embeddings; a number learns its own of that size."""
    num_contextual_layers: Layers = 2
    num_heads: Annotated[int, Field(ge=1)] = 4
    feedforward_dim: Annotated[int, Field(ge=1)] = 300
    kernel_sigma: Annotated[float, Field(gt=0)] = 0.1


class _LanguageModel(_Layered):
    head: Literal["linear", "yes_no"] = "linear"
    """`linear`: the layer on the last token of a checkpoint for sequence classification, else a fresh one; `yes_no`:
    logit(yes_token) - logit(no_token)."""
    template: str = "Document: {document}\n\nQuery: {query}"
    """The prompt; its own tokens are never cut."""
    # Left out of dumps where it is not used: keys of models made without it stay as they are.
    joined: Annotated[Literal["none", "left", "both"], Field(exclude_if=lambda value: value == "none")] = "none"
    """What of the prompt a text is tokenised with: nothing; the end of the line before it; also the line break after
    it, as if the prompt were one string. Presets set it as their model card tokenises."""
    append_eos: bool = True
    """End the prompt with the end-of-text token, whose state the head reads."""
    yes_token: str = "yes"  # noqa: S105
    no_token: str | None = "no"  # noqa: S105
    """None: the score is logit(yes_token) alone."""

    @field_validator("template")
    @classmethod
    def _has_both_places(cls, template: str) -> str:
        if template.count("{query}") != 1 or template.count("{document}") != 1:
            raise ValueError("must hold {query} and {document} once each")
        return template


class CausalLmSpec(_LanguageModel):
    """A causal language model as pointwise re-ranker."""

    ranker: Literal["causal_lm"]
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """`auto`: eager on CPU, where it is faster for narrow heads, sdpa elsewhere."""


class RecurrentSpec(_LanguageModel):
    """A state-space or linear-recurrent language model (Mamba, Mamba-2, RecurrentGemma) as pointwise re-ranker."""

    ranker: Literal["recurrent"]


RankerSpec = Annotated[
    CrossEncoderSpec | DualEncoderSpec | ColbertSpec | PrettrSpec | TkSpec | CausalLmSpec | RecurrentSpec,
    Field(discriminator="ranker"),
]
