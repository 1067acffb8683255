"""Transformer-Kernel (Hofstaetter et al., arXiv:2002.01854): shallow contextualisation, kernels over cosine matches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel

from stillhouse.errors import RecipeError
from stillhouse.rankers import saving
from stillhouse.rankers.backbones import load_model, load_tokenizer, read_config, resolve
from stillhouse.rankers.batching import Template, Tokens
from stillhouse.rankers.heads import Float32Linear
from stillhouse.rankers.reps import Vectors
from stillhouse.rankers.separable import SeparableRanker
from stillhouse.recipe.rankers import TkSpec

KERNEL_MEANS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9)
LOG_FLOOR = 1e-10


class TransformerKernel(SeparableRanker):
    """s = sum_k w_k sum_i log sum_j exp(-(cos(q_i, d_j) - mu_k)^2 / (2 sigma^2)), q and d contextualised.

    A token's vector is alpha x + (1 - alpha) TF(x + positions); alpha starts at 0.5 and is learnt.
    """

    key = "tk"
    has_kernels = True
    spec_class = TkSpec

    def __init__(self, spec: TkSpec, tokenizer: Any, vocabulary: int, width: int) -> None:
        if width % spec.num_heads:
            raise RecipeError(f"num_heads is {spec.num_heads}, which does not divide the {width} embedding dimensions")
        super().__init__(spec, None, tokenizer)
        self.embedding = nn.Embedding(vocabulary, width)
        self.embedding.weight.requires_grad_(not spec.freeze_word_embeddings)
        layers = [
            nn.TransformerEncoderLayer(width, spec.num_heads, spec.feedforward_dim, spec.dropout, batch_first=True)
            for _ in range(spec.num_contextual_layers)
        ]
        self.layers = nn.ModuleList(layers)
        # One element instead of a scalar: FSDP2 shards no zero-dimensional parameter.
        self.alpha = nn.Parameter(torch.tensor([0.5]))
        self.kernels = Float32Linear(len(KERNEL_MEANS), 1, bias=False)
        self.register_buffer("means", torch.tensor(KERNEL_MEANS), persistent=False)

    @classmethod
    def _fresh_from(cls, spec: TkSpec, seed: int) -> Self:
        folder = resolve(spec.backbone)
        tokenizer = load_tokenizer(folder)
        if spec.embedding_dim is not None:
            return cls(spec, tokenizer, len(tokenizer), spec.embedding_dim).draw_fresh(seed)
        table = load_model(AutoModel, folder, read_config(folder), whole=True)[0].get_input_embeddings().weight
        ranker = cls(spec, tokenizer, *table.shape)
        with torch.no_grad():
            ranker.embedding.weight.copy_(table)
        return ranker.draw_fresh(seed)

    @classmethod
    def _opened(cls, spec: TkSpec, folder: Path) -> Self:
        with safe_open(folder / saving.HEADS, "pt") as file:
            shape = file.get_slice("embedding.weight").get_shape()
        return cls(spec, load_tokenizer(folder), *shape)

    def preset_parameters(self) -> set[str]:
        return {"alpha"} | ({"embedding.weight"} if self.spec.embedding_dim is None else set())

    def fresh_parameters(self) -> set[str]:
        given = {"embedding.weight"} if self.spec.embedding_dim is None else set()
        return super().fresh_parameters() - given

    def kernel_parameters(self) -> set[str]:
        return {"kernels.weight"}

    def make_template(self) -> Template:
        # Words only: special tokens have no place in a bag of matches.
        return Template(((), ()), ((), ()), (0,))

    def backbones(self) -> dict[str, Any]:
        return {}

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def _encode(self, tokens: Tokens, side: str) -> Vectors:
        words_PLD = self.embedding(tokens.ids_PL)
        hidden_PLD = words_PLD + _positions(words_PLD.shape[1], words_PLD.shape[2]).to(words_PLD)
        padded_PL = tokens.mask_PL == 0
        # An empty text attends to its one padding token; its mask keeps it out of every match.
        padded_PL = padded_PL & ~padded_PL.all(1, keepdim=True)
        for layer in self.layers:
            if self.spec.gradient_checkpointing and self.training:
                hidden_PLD = checkpoint(layer, hidden_PLD, None, padded_PL, use_reentrant=False)
            else:
                hidden_PLD = layer(hidden_PLD, src_key_padding_mask=padded_PL)
        mixed_PLD = self.alpha.float() * words_PLD.float() + (1 - self.alpha.float()) * hidden_PLD.float()
        return Vectors(normalize(mixed_PLD, dim=-1), tokens.mask_PL.bool())

    def _compare(self, queries: Any, docs: Any) -> Tensor:
        with torch.autocast(queries.values_NLD.device.type, enabled=False):
            match_NLM = queries.values_NLD @ docs.values_NLD.transpose(1, 2)
            distance_NLMK = match_NLM.unsqueeze(-1) - self.get_buffer("means")
            kernel_NLMK = torch.exp(-(distance_NLMK**2) / (2 * self.spec.kernel_sigma**2))
            count_NLK = (kernel_NLMK * docs.mask_NL[:, None, :, None]).sum(2)
            log_NLK = count_NLK.clamp(min=LOG_FLOOR).log() * queries.mask_NL.unsqueeze(-1)
        scores_N1: Tensor = self.kernels(log_NLK.sum(1))
        return scores_N1[:, 0]

    def heads(self) -> list[nn.Module]:
        return [self]

    def exported_modules(self) -> list[saving.LibraryModule] | None:
        return None

    def unexpressed(self) -> list[str]:
        return ["ranker: tk"]


def _positions(length: int, width: int) -> Tensor:
    """Sinusoidal position encodings [L, D] (Vaswani et al., arXiv:1706.03762, section 3.5)."""
    rate_H = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle_LH = torch.arange(length)[:, None] * rate_H
    return torch.stack([angle_LH.sin(), angle_LH.cos()], dim=-1).flatten(1)[:, :width]
