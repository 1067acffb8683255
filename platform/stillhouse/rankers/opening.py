"""Open what others saved: sentence-transformers folders, Hugging Face classification models, and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from stillhouse.errors import BackboneError
from stillhouse.rankers import saving
from stillhouse.rankers.backbones import max_positions, read_config, resolve
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.colbert import Colbert
from stillhouse.rankers.cross_encoder import CrossEncoder
from stillhouse.rankers.dual_encoder import DualEncoder
from stillhouse.rankers.language_model import CausalLm, Recurrent
from stillhouse.rankers.prettr import Prettr
from stillhouse.rankers.tk import TransformerKernel

RANKERS: dict[str, type[Ranker]] = {
    "cross_encoder": CrossEncoder,
    "dual_encoder": DualEncoder,
    "colbert": Colbert,
    "prettr": Prettr,
    "tk": TransformerKernel,
    "causal_lm": CausalLm,
    "recurrent": Recurrent,
}


def load_ranker(path_or_hub_name: str | Path) -> Ranker:
    """The ranker saved in a folder: ours, of sentence-transformers, or a Hugging Face classifier.

    The folder may be named by a hub name (`owner/name`, `owner/name@revision`) or an MLflow URI (`runs:/ID/student`,
    `models:/NAME/VERSION`). Weights are safetensors, and code that lies beside them never runs. Raises BackboneError
    when a weight is missing or a layer is not one that a ranker here can express.
    """
    folder = resolve(str(path_or_hub_name))
    if (folder / saving.FACTS).is_file():
        key = saving.read_facts(folder)["ranker"]
        if key not in RANKERS:
            raise BackboneError(f"{folder / saving.FACTS}: unknown ranker {key!r}; known: {sorted(RANKERS)}")
        return RANKERS[key].from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        return _open_foreign(folder)


def _open_foreign(folder: Path) -> Ranker:
    modules = _json(folder / "modules.json", [])
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    config = read_config(folder)
    if len(kinds) <= 1 and any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ()):
        return _open_head(folder, config)
    return _open_modules(folder, config, modules, kinds)


def _open_head(folder: Path, config: Any) -> Ranker:
    """A classification model with its own head."""
    caps = _pair_caps(config)
    spec = _spec(CrossEncoder, folder, caps | {"pooling": "pooler"})
    ranker = CrossEncoder._opened(spec, folder)
    if not ranker.template.specials[1]:
        raise BackboneError(
            f"{folder}: its tokenizer puts nothing between query and document, so it needs a prompt: in a recipe "
            "{ranker: causal_lm, backbone: FOLDER, head: linear, template: ...}, or a preset"
        )
    return ranker


def _open_modules(folder: Path, config: Any, modules: list[dict[str, Any]], kinds: list[str]) -> Ranker:
    """A pipeline of sentence-transformers: Transformer, Pooling, then Dense, LayerNorm, Normalize as far as present."""
    path = folder / "modules.json"
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in _TAILS:
        raise BackboneError(
            f"{path}: modules {kinds or 'none'} are no ranker known here; "
            "a bare encoder becomes one with RANKERS[...].from_backbone"
        )
    settings = [_json(folder / module["path"] / "config.json", {}) for module in modules]
    tail = {
        kind: (settings[number], folder / modules[number]["path"]) for number, kind in enumerate(kinds) if number > 1
    }
    dense = tail.get("Dense", ({}, folder))[0]
    if dense and not str(dense["activation_function"]).endswith("linear.Identity"):
        raise BackboneError(f"{path}: a Dense layer with {dense['activation_function']} is no ranker known here")
    pooling = _pooling_mode(settings[1], folder)
    if dense.get("module_output_name") == "scores":
        spec = _spec(CrossEncoder, folder, _pair_caps(config) | {"pooling": pooling})
        ranker: Ranker = CrossEncoder._opened(spec, folder)
        return _fill(ranker, {"head": tail["Dense"][1]})
    if dense.get("bias"):
        raise BackboneError(f"{path}: a Dense layer with a bias is no projection known here")
    similarity = _json(folder / "config_sentence_transformers.json", {}).get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise BackboneError(f"{folder}: similarity {similarity!r} is not one of cosine, dot")
    options = {
        "pooling": pooling,
        "similarity": "cosine" if "Normalize" in tail else similarity,
        "projection_dim": dense.get("out_features"),
        "output_layer_norm": "LayerNorm" in tail,
    } | _single_caps(folder, config)
    ranker = DualEncoder._opened(_spec(DualEncoder, folder, options), folder)
    heads = {"projection": "Dense", "norm": "LayerNorm"}
    return _fill(ranker, {name: tail[kind][1] for name, kind in heads.items() if kind in tail})


_TAILS: tuple[list[str], ...] = (
    [],
    ["Normalize"],
    ["Dense"],
    ["LayerNorm"],
    ["Dense", "Normalize"],
    ["LayerNorm", "Normalize"],
    ["Dense", "LayerNorm"],
    ["Dense", "LayerNorm", "Normalize"],
)


def _spec(kind: type[Ranker], folder: Path, options: dict[str, Any]) -> Any:
    return kind.spec_class.model_validate({"ranker": kind.key, "backbone": str(folder)} | options)


def _fill(ranker: Ranker, heads: dict[str, Path]) -> Ranker:
    """Read the weights of each head from its module's folder."""
    for name, folder in heads.items():
        path = folder / "model.safetensors"
        if not path.is_file():
            raise BackboneError(f"{path}: weights are missing; other formats are not read")
        tensors = {key.split(".", 1)[1]: tensor for key, tensor in load_file(path).items()}
        head = ranker.get_submodule(name)
        if {key: tensor.shape for key, tensor in tensors.items()} != {
            key: tensor.shape for key, tensor in head.state_dict().items()
        }:
            raise BackboneError(f"{path}: does not hold the weights of its config.json")
        head.load_state_dict(tensors)
    return ranker


def _pooling_mode(config: dict[str, Any], folder: Path) -> str:
    legacy = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    mode = config.get("pooling_mode", legacy[0] if len(legacy) == 1 else legacy)
    known = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean"}
    if mode not in known:
        raise BackboneError(f"{folder}: pooling {mode!r} is not one of cls, mean")
    return known[mode]


def _pair_caps(config: Any) -> dict[str, Any]:
    """The default caps where they fit, else a quarter of the positions for the query and the rest for the document."""
    positions = max_positions(config)
    if positions is None or positions >= 64 + 256 + 4:
        return {}
    query = max(1, positions // 4)
    return {"query_max_length": query, "doc_max_length": max(1, positions - query - 4)}


def _single_caps(folder: Path, config: Any) -> dict[str, int]:
    """Caps as the folder states them, two special tokens taken off; else the defaults as far as they fit."""
    stated = _json(folder / "sentence_bert_config.json", {})
    positions = max_positions(config) or 1_000_000
    longest = min(stated.get("max_seq_length") or positions, positions)
    query = stated.get("query_length") or min(longest, 64 + 2)
    doc = stated.get("document_length") or min(longest, 256 + 2)
    return {"query_max_length": max(1, query - 2), "doc_max_length": max(1, doc - 2)}


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise BackboneError(f"{path}: not valid JSON: {error}") from None
