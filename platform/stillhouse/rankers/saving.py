"""Saved rankers: a folder that stillhouse reopens exactly and that sentence-transformers 6 opens with equal scores.

The root is the backbone in Hugging Face layout. `ranker.json` and `ranker.safetensors` are stillhouse's own; the
numbered folders say the same heads in sentence-transformers' terms.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillhouse.artifacts import write_json
from stillhouse.errors import BackboneError
from stillhouse.rankers import lora
from stillhouse.rankers.backbones import quiet
from stillhouse.rankers.card import model_card

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

FORMAT = 1
FACTS = "ranker.json"
HEADS = "ranker.safetensors"


@dataclass(frozen=True)
class LibraryModule:
    """One module of a sentence-transformers pipeline: class, config and weights."""

    name: str
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    package: str = "sentence_transformers.models"


def pooling(width: int, how: str) -> LibraryModule:
    """`cls` or `mean` over token embeddings; the legacy keys open in every version."""
    config = {"word_embedding_dimension": width, "include_prompt": True}
    config |= {"pooling_mode_cls_token": how == "cls", "pooling_mode_mean_tokens": how == "mean"}
    return LibraryModule("Pooling", config)


def dense(weight: Tensor, bias: Tensor | None, *, reads: str, writes: str) -> LibraryModule:
    """A linear layer without activation."""
    config = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": bias is not None,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_input_name": reads,
        "module_output_name": writes,
    }
    tensors = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
    return LibraryModule("Dense", config, tensors)


def layer_norm(weight: Tensor, bias: Tensor) -> LibraryModule:
    return LibraryModule("LayerNorm", {"dimension": weight.shape[0]}, {"norm.weight": weight, "norm.bias": bias})


def normalize() -> LibraryModule:
    return LibraryModule("Normalize", {})


def save(ranker: Ranker, path: Path, card: str, *, merge: bool = True) -> None:
    """Write the folder aside, then put it in place of `path`; `merge` puts LoRA adapters into the weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir()
    try:
        if merge or lora.lora_of(ranker) is None:
            card = "\n\n".join(part for part in (card, lora.describe(ranker)) if part)
            with lora.unwrapped(ranker, merge=True):
                _write(ranker, aside, card)
        else:
            _write_apart(ranker, aside, card)
        if path.exists():
            shutil.rmtree(path)
        os.rename(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(ranker: Ranker, folder: Path, card: str) -> None:
    _write_backbones(ranker, folder)
    _write_own(ranker, folder)
    modules = ranker.exported_modules()
    if modules is not None:
        _write_library_files(ranker, folder, modules)
    (folder / "README.md").write_text(model_card(ranker, card, opens_in_library=modules is not None))


def _write_apart(ranker: Ranker, folder: Path, card: str) -> None:
    """With the adapters beside the frozen weights. No library files: those weights alone are another ranker."""
    with lora.unwrapped(ranker, merge=False):
        _write_backbones(ranker, folder / lora.BASE)
    lora.save(ranker, folder)
    _write_own(ranker, folder)
    (folder / "README.md").write_text(model_card(ranker, card, opens_in_library=False))


def backbone_folder(spec: Any, folder: Path) -> Path:
    """Where a saved ranker keeps its backbone."""
    return folder / lora.BASE if getattr(spec, "lora", None) else folder


def _write_backbones(ranker: Ranker, folder: Path) -> None:
    for subfolder, attribute in ranker.backbones().items():
        with quiet():
            getattr(ranker, attribute).save_pretrained(folder / subfolder)
        if subfolder:
            _save_tokenizer(ranker, folder / subfolder)
    _save_tokenizer(ranker, folder)


def _write_own(ranker: Ranker, folder: Path) -> None:
    """The heads and what is known about the ranker."""
    heads = _head_tensors(ranker)
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in heads.items()}, folder / HEADS)
    facts = {
        "format": FORMAT,
        "ranker": ranker.key,
        "spec": ranker.spec.model_dump(mode="json"),
        "fresh_parameters": sorted(ranker.fresh_parameters()),
    }
    write_json(folder / FACTS, facts)


def _save_tokenizer(ranker: Ranker, folder: Path) -> None:
    backend = ranker.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    ranker.tokenizer.save_pretrained(folder)


def _head_tensors(ranker: Ranker) -> dict[str, Tensor]:
    prefixes = tuple(f"{attribute}." for attribute in ranker.backbones().values())
    return {name: tensor for name, tensor in ranker.state_dict().items() if not name.startswith(prefixes)}


def _write_library_files(ranker: Ranker, folder: Path, modules: list[LibraryModule]) -> None:
    config, first = ranker.exported_config()
    write_json(folder / "config_sentence_transformers.json", config)
    write_json(folder / "sentence_bert_config.json", first)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, module in enumerate(modules, start=1):
        subfolder = folder / f"{number}_{module.name}"
        subfolder.mkdir()
        write_json(subfolder / "config.json", module.config)
        if module.tensors:
            tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in module.tensors.items()}
            save_file(tensors, subfolder / "model.safetensors")
        reference = f"{module.package}.{module.name}"
        listed.append({"idx": number, "name": str(number), "path": subfolder.name, "type": reference})
    write_json(folder / "modules.json", listed)


def read_facts(folder: Path, key: str | None = None) -> dict[str, Any]:
    """`ranker.json` of a saved folder; BackboneError when it is not one, or of another architecture than `key`."""
    path = folder / FACTS
    if not path.is_file():
        raise BackboneError(f"{folder}: no {FACTS}; open folders of other libraries with load_ranker")
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise BackboneError(f"{path}: not valid JSON: {error}") from None
    if facts.get("format") != FORMAT:
        raise BackboneError(f"{path}: format is {facts.get('format')!r}, this version reads {FORMAT}")
    if key is not None and facts["ranker"] != key:
        raise BackboneError(f"{path}: holds a {facts['ranker']}, not a {key}; open it with load_ranker")
    return facts


def read_heads(folder: Path, ranker: Ranker) -> None:
    """Fill what is not backbone from `ranker.safetensors`; every tensor must be there and fit."""
    expected = _head_tensors(ranker)
    path = folder / HEADS
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"{path}: head weights cannot be read: {error}") from None
    wrong = {name for name, tensor in expected.items() if name not in found or found[name].shape != tensor.shape}
    wrong |= found.keys() - expected.keys()
    if wrong:
        raise BackboneError(
            f"{path}: {len(wrong)} weights are missing, unknown or of another shape, first {min(wrong)}"
        )
    ranker.load_state_dict(found, strict=False)
