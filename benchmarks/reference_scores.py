"""The same scores from elsewhere: sentence-transformers, transformers, and an equation written out in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


def library_scores(kind: str, folder: Path, queries: Sequence[str], docs: Sequence[Sequence[str]]) -> Array:
    """Scores [Q, K] of the folder opened by a class of sentence-transformers."""
    import sentence_transformers

    model = getattr(sentence_transformers, kind)(str(folder), device="cpu")
    found = []
    for query, row in zip(queries, docs, strict=True):
        if kind == "CrossEncoder":
            found.append(model.predict([(query, doc) for doc in row]))
        else:
            found.append(model.similarity(model.encode_query([query]), model.encode_document(list(row)))[0].cpu())
    return np.array([np.asarray(row, dtype=np.float64) for row in found])


def causal_scores(
    folder: Path, queries: Sequence[str], docs: Sequence[Sequence[str]], weight_D: Tensor | None
) -> Array:
    """Scores [Q, K]: the last state times `weight_D`, or logit(yes) - logit(no); each prompt tokenised as one text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    scores_QK = np.zeros((len(queries), len(docs[0])))
    for number, (query, row) in enumerate(zip(queries, docs, strict=True)):
        for place, doc in enumerate(row):
            # The tokenizer puts [CLS] before it and [SEP], the end-of-text token of this model, behind it.
            ids = tokenizer(f"Document: {doc}\n\nQuery: {query}", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                output = model(ids, use_cache=False, output_hidden_states=True)
            logits_V = output.logits[0, -1].double()
            score = logits_V[yes] - logits_V[no]
            if weight_D is not None:
                score = output.hidden_states[-1][0, -1].double() @ weight_D.detach().double()
            scores_QK[number, place] = float(score)
    return scores_QK


def tk_scores(weights: Mapping[str, Tensor], num_heads: int, query: Sequence[int], doc: Sequence[int]) -> float:
    """One score of Transformer-Kernel from its definition (Hofstaetter et al., arXiv:2002.01854), in float64."""
    arrays = {name: tensor.double().numpy() for name, tensor in weights.items()}
    q_ND, d_MD = (_contextual(arrays, num_heads, ids) for ids in (query, doc))
    cosine_NM = q_ND @ d_MD.T
    means_K = np.array([1.0, *np.arange(0.9, -1.0, -0.2)])
    soft_NK = np.exp(-((cosine_NM[:, :, None] - means_K) ** 2) / (2 * 0.1**2)).sum(1)
    score: float = np.log(np.maximum(soft_NK, 1e-10)).sum(0) @ arrays["kernels.weight"][0]
    return score


def _contextual(arrays: Mapping[str, Array], num_heads: int, ids: Sequence[int]) -> Array:
    """Gated and normalised token vectors [L, D]."""
    words_LD = arrays["embedding.weight"][list(ids)]
    if not ids:
        return words_LD
    hidden_LD = words_LD + _positions(*words_LD.shape)
    layer = 0
    while f"layers.{layer}.linear1.weight" in arrays:
        hidden_LD = _layer({k: v for k, v in arrays.items() if k.startswith(f"layers.{layer}.")}, num_heads, hidden_LD)
        layer += 1
    alpha = arrays["alpha"][0]
    mixed_LD = alpha * words_LD + (1 - alpha) * hidden_LD
    vectors_LD: Array = mixed_LD / np.linalg.norm(mixed_LD, axis=1, keepdims=True)
    return vectors_LD


def _positions(length: int, width: int) -> Array:
    """sin and cos of l / 10000^(2i/D), in turn."""
    angle_LH = np.arange(length)[:, None] / 10_000.0 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angle_LH), np.cos(angle_LH)], axis=2).reshape(length, width)


def _layer(arrays: Mapping[str, Array], num_heads: int, x_LD: Array) -> Array:
    """Self-attention and feed-forward, each followed by addition and norm (arXiv:1706.03762, section 3)."""
    layer: dict[str, Any] = {name.split(".", 2)[2]: array for name, array in arrays.items()}
    length, width = x_LD.shape
    joint = x_LD @ layer["self_attn.in_proj_weight"].T + layer["self_attn.in_proj_bias"]
    q, k, v = (part.reshape(length, num_heads, -1).transpose(1, 0, 2) for part in np.split(joint, 3, axis=1))
    weight_HLL = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(width / num_heads))
    weight_HLL /= weight_HLL.sum(-1, keepdims=True)
    seen_LD = (weight_HLL @ v).transpose(1, 0, 2).reshape(length, width)
    x_LD = _norm(
        layer, "norm1", x_LD + seen_LD @ layer["self_attn.out_proj.weight"].T + layer["self_attn.out_proj.bias"]
    )
    inner = np.maximum(x_LD @ layer["linear1.weight"].T + layer["linear1.bias"], 0)
    return _norm(layer, "norm2", x_LD + inner @ layer["linear2.weight"].T + layer["linear2.bias"])


def _norm(layer: Mapping[str, Array], name: str, x_LD: Array) -> Array:
    centred = x_LD - x_LD.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    moved: Array = scaled * layer[f"{name}.weight"] + layer[f"{name}.bias"]
    return moved
