"""Low-rank adapters on a frozen backbone (Hu et al., arXiv:2106.09685). The only place that knows peft."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stillhouse.artifacts import stable_hash
from stillhouse.errors import BackboneError
from stillhouse.rankers.backbones import layers_of
from stillhouse.recipe.rankers import LoraSpec

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

BASE = "base"
"""Subfolder of the frozen weights where adapters are saved apart."""
ADAPTERS = "adapters"
_WEIGHTS = "adapter_model.safetensors"
# What PEFT puts before the names of a model's parameters in its files.
_PREFIX = "base_model.model."

# Recurrent layers whose kernels read these weights past the layer: an update beside the weight would be ignored.
_BYPASSED = {"mamba": ("x_proj", "dt_proj", "out_proj"), "mamba2": ("out_proj",)}
_BYPASSED["falcon_mamba"] = _BYPASSED["mamba"]


def add(ranker: Ranker, seed: int = 0) -> None:
    """Freeze the backbone and put adapters as `spec.lora` says, A drawn from `seed` and B zero: no score changes.

    What trains afterwards is the adapters and the ranker's head. Raises BackboneError when peft is not installed, or
    the backbone has no such layer.
    """
    spec = lora_of(ranker)
    if spec is None:
        return
    peft = _peft()
    for attribute in ranker.backbones().values():
        backbone = getattr(ranker, attribute)
        config = peft.LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=spec.dropout,
            target_modules=_targets(backbone, spec, ranker.spec.backbone),
        )
        peft.inject_adapter_in_model(config, backbone)
    for head in ranker.heads():
        head.requires_grad_(True)
    _draw(ranker, seed)


def lora_of(ranker: Ranker) -> LoraSpec | None:
    """The ranker's option; None also for architectures that have none."""
    spec: LoraSpec | None = getattr(ranker.spec, "lora", None)
    return spec


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise BackboneError("lora is set, but peft is not installed: pip install 'stillhouse[lora]'") from None
    return peft


def _targets(backbone: Any, spec: LoraSpec, name: str) -> list[str]:
    """Full names of the layers that get an adapter."""
    blocks = set(layers_of(backbone))
    roots = [path for path, module in backbone.named_modules() if module in blocks]
    linear = [
        path
        for path, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and any(path.startswith(f"{root}.") for root in roots)
    ]
    bypassed = _BYPASSED.get(backbone.config.model_type, ())
    able = [path for path in linear if path.rsplit(".", 1)[-1] not in bypassed]
    if spec.target == "all-linear":
        return able
    known = sorted({path.rsplit(".", 1)[-1] for path in able})
    for target in spec.target:
        if not any(_ends_with(path, target) for path in able):
            raise BackboneError(f"lora.target: {name} has no linear layer {target!r} to adapt; it has {known}")
    return [path for path in able if any(_ends_with(path, target) for target in spec.target)]


def _ends_with(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _draw(ranker: Ranker, seed: int) -> None:
    """A from U(-1/sqrt(in), 1/sqrt(in)) as peft draws it, B = 0; the global generator is not touched."""
    # Not the heads' generator: with its seed, adapters would repeat the heads' numbers.
    generator = torch.Generator().manual_seed(int(stable_hash({"lora": seed}), 16) % 2**63)
    for _, layer in _layers(ranker):
        down, up = layer.lora_A["default"], layer.lora_B["default"]
        for linear in (down, up):
            if linear.weight.is_meta:
                linear.to_empty(device="cpu")
        bound = 1 / math.sqrt(down.in_features)
        with torch.no_grad():
            down.weight.copy_((torch.rand(down.weight.shape, generator=generator) * 2 - 1) * bound)
            up.weight.zero_()


def _layers(ranker: Ranker) -> list[tuple[str, Any]]:
    """Name and module of every adapted layer, in the order of their names."""
    from peft.tuners.lora import LoraLayer

    return sorted((name, module) for name, module in ranker.named_modules() if isinstance(module, LoraLayer))


def describe(ranker: Ranker) -> str:
    """What the model card of the merged ranker says; empty without adapters."""
    spec = lora_of(ranker)
    if spec is None:
        return ""
    target = spec.target if isinstance(spec.target, str) else ", ".join(spec.target)
    return f"Trained with LoRA (rank {spec.rank}, alpha {spec.alpha:g}, {target}), merged into these weights."


def fold(ranker: Ranker) -> None:
    """Make every adapted layer a plain one that holds W + (alpha / rank) B A; the ranker has no adapters any more."""
    _unwrap(ranker, merge=True)


@contextmanager
def unwrapped(ranker: Ranker, *, merge: bool) -> Iterator[None]:
    """Inside, the ranker has plain layers: with the adapters in their weights (`merge`), or without."""
    spec = ranker.spec
    wrapped = _unwrap(ranker, merge=merge)
    try:
        yield
    finally:
        for name, layer, weight in wrapped:
            layer.get_base_layer().weight = weight
            ranker.set_submodule(name, layer)
        ranker.spec = spec


def _unwrap(ranker: Ranker, *, merge: bool) -> list[tuple[str, Any, nn.Parameter]]:
    """Take the adapters out; returns what puts them back: names, layers and their weights before."""
    if lora_of(ranker) is None:
        return []
    wrapped = []
    for name, layer in _layers(ranker):
        plain = layer.get_base_layer()
        wrapped.append((name, layer, plain.weight))
        if merge:
            with torch.no_grad():
                merged = plain.weight + layer.get_delta_weight("default")
            plain.weight = nn.Parameter(merged, requires_grad=False)
        ranker.set_submodule(name, plain)
    ranker.spec = ranker.spec.model_copy(update={"lora": None})
    return wrapped


def save(ranker: Ranker, folder: Path) -> None:
    """The adapters of each backbone as peft writes them."""
    peft = _peft()
    for subfolder, attribute in ranker.backbones().items():
        backbone = getattr(ranker, attribute)
        place = folder / ADAPTERS / subfolder
        backbone.peft_config["default"].save_pretrained(place)
        tensors = peft.get_peft_model_state_dict(backbone)
        named = {f"{_PREFIX}{name}": tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(named, place / _WEIGHTS, {"format": "pt"})


def read(ranker: Ranker, folder: Path) -> None:
    """Fill the adapters from a saved folder; every tensor must be there and fit."""
    peft = _peft()
    for subfolder, attribute in ranker.backbones().items():
        backbone, path = getattr(ranker, attribute), folder / ADAPTERS / subfolder / _WEIGHTS
        try:
            found = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise BackboneError(f"{path}: adapters cannot be read: {error}") from None
        shapes = {name: tensor.shape for name, tensor in peft.get_peft_model_state_dict(backbone).items()}
        if shapes != {name: tensor.shape for name, tensor in found.items()}:
            raise BackboneError(
                f"{path}: its {len(found)} tensors are not those of the ranker's {len(shapes)} adapters"
            )
        peft.set_peft_model_state_dict(backbone, found)
