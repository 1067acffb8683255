"""What a recipe can say about a ranker: one class per architecture of `stillhouse.rankers.RANKERS`.

Kept apart from the modules so that reading a recipe needs no torch; a test compares both.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.recipe.base import Spec

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Layers = Annotated[int, Field(ge=1, le=1_000)]


class _Ranker(Spec):
    backbone: str
    """Folder, hub name, or `minilm` (the weights of the extra `demo`)."""
    query_max_length: Tokens = 64
    """Cap on a query's own tokens, special tokens not counted."""
    doc_max_length: Tokens = 256
    """Cap on a document's own tokens, special tokens not counted."""
    num_layers: Layers | None = None
    """Keep only the first layers of the backbone; None keeps all."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """`auto`: eager on CPU, where it is faster for narrow heads, sdpa elsewhere."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout inside the backbone while it trains."""
    freeze_word_embeddings: bool = False
    gradient_checkpointing: bool = False


class CrossEncoderSpec(_Ranker):
    """Query and document read together (BERT_CAT)."""

    ranker: Literal["cross_encoder"]
    pooling: Literal["cls", "mean", "pooler"] = "cls"
    """What the linear head reads; `pooler` is the backbone's own dense + tanh over CLS."""


class DualEncoderSpec(_Ranker):
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


RankerSpec = Annotated[CrossEncoderSpec | DualEncoderSpec, Field(discriminator="ranker")]
