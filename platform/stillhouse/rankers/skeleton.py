"""Large backbones without their weights: built on the meta device, each weight read later, row by row as asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import GenerationConfig

from stillhouse.errors import BackboneError

logger = logging.getLogger(__name__)
_wanted = False


@dataclass(frozen=True)
class Stored:
    """Where a weight lies: a tensor of a safetensors file."""

    file: Path
    name: str
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows [start, stop) of the first dimension in memory of their own; no other row is read."""
        if start >= stop:
            return torch.empty((0, *self.shape[1:]), dtype=dtype)
        with safe_open(self.file, "pt") as opened:
            # Views of the mapped file lie at odd addresses, where products round differently than in memory of our own.
            rows: Tensor = opened.get_slice(self.name)[start:stop]
            return rows.to(dtype, copy=True)


@contextmanager
def skeletons() -> Iterator[None]:
    """Inside, `load_model` gives models whose parameters lie on the meta device; `stored_weights` says where they are.

    Only what a checkpoint gives stays empty. Heads, adapters and buffers are made as always, by the same code.
    """
    global _wanted
    before, _wanted = _wanted, True
    try:
        yield
    finally:
        _wanted = before


def wanted() -> bool:
    return _wanted


def build(auto_class: Any, folder: Path, config: Any) -> tuple[Any, set[str]] | None:
    """The float32 model on the meta device, and the names that its checkpoint lacks; these are real and undrawn.

    None where the files name or shape their weights otherwise than the model does: such a checkpoint has to be
    converted as a whole.
    """
    found = _read_names(folder)
    with _parameters_on_meta():
        model = auto_class.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
    missing = set()
    for names, tensor in _tensors(model).values():
        matches = {
            key: found[key] for name in names for key in _spellings(name, model.base_model_prefix) if key in found
        }
        if not matches:
            missing |= names
            _make_real(model, names, tensor)
        elif len(matches) > 1 or (match := next(iter(matches.values()))).shape != tuple(tensor.shape):
            return None
        else:
            for module, leaf in _places(model, names):
                # With its module, a weight is found again under any name: adapters wrap layers, chosen layers move.
                module.stored_weights = {**stored_weights(module), leaf: match}
    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model, missing


def stored_weights(module: nn.Module) -> Mapping[str, Stored]:
    """Where the empty weights that are this very module's own are, by the names it has for them."""
    stored: Mapping[str, Stored] = getattr(module, "stored_weights", {})
    return stored


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters made inside lose their values at once; buffers, which hold computed constants, keep theirs."""
    register: Any = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        # One that is empty already is another's: a copy would untie them.
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _tensors(model: nn.Module) -> dict[int, tuple[set[str], Tensor]]:
    """Each saved tensor of a model with all of its names: tied weights have several."""
    found: dict[int, tuple[set[str], Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (set(), tensor))[0].add(name)
    return found


def _spellings(name: str, prefix: str) -> Iterator[str]:
    """How checkpoints call a weight: with or without the base model's prefix, norms as they once were."""
    without = name.removeprefix(f"{prefix}.")
    for spelling in dict.fromkeys((name, without, f"{prefix}.{name}")):
        yield spelling
        old = spelling.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        if old != spelling:
            yield old


def _make_real(model: nn.Module, names: set[str], tensor: Tensor) -> None:
    if not tensor.is_meta:
        return
    real = nn.Parameter(torch.empty(tensor.shape), requires_grad=tensor.requires_grad)
    for module, leaf in _places(model, names):
        setattr(module, leaf, real)


def _places(model: nn.Module, names: set[str]) -> Iterator[tuple[Any, str]]:
    for name in names:
        parent, _, leaf = name.rpartition(".")
        yield model.get_submodule(parent), leaf


def _read_names(folder: Path) -> dict[str, Stored]:
    """Every tensor of a Hugging Face checkpoint: one file, or shards with an index. No weight is read."""
    index = folder / "model.safetensors.index.json"
    whole = folder / "model.safetensors"
    try:
        files = [whole] if whole.is_file() else sorted(set(json.loads(index.read_text())["weight_map"].values()))
        found = {}
        for file in (folder / name for name in files):
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a mapping)
                    found[name] = Stored(file, name, tuple(opened.get_slice(name).get_shape()))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BackboneError(f"{folder}: weights cannot be read: {str(error).splitlines()[0]}") from None
    return found
