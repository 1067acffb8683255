"""One of two ranks: python load_parts.py FOLDER. Rankers read row by row against the same rankers read whole; JSON."""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stillhouse.rankers import RANKERS, Ranker
from stillhouse.training.sharding import build, shard

CAPS = {"query_max_length": 10, "doc_max_length": 40}
QUERIES = ["river stone", "silver forest bridge"]
DOCS = [["river garden", "x", "needle " * 30], ["silver forest"]]
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # The checkpoint's folder, as test_sharded_loading.py writes it.
    **{kind: ("cross_encoder", kind, {}) for kind in ("bert", "roberta", "albert", "modernbert", "old_names")},
    "fresh_own_head": ("cross_encoder", "bert", {"pooling": "pooler"}),
    "own_head": ("cross_encoder", "with_head", {"pooling": "pooler"}),
    "fewer_layers": ("cross_encoder", "bert", {"num_layers": 2}),
    "distilbert": ("dual_encoder", "distilbert", {"output_layer_norm": True, "learn_score_scale": True}),
    "untied": ("dual_encoder", "bert", {"tied": False, "projection_dim": 16}),
    "electra": ("colbert", "electra", {"projection_dim": 16}),
    "prettr": ("prettr", "roberta", {"num_separate_layers": 1}),
    "tk": ("tk", "bert", {}),
    "qwen2": ("causal_lm", "qwen2", {}),
    "qwen2_answers": ("causal_lm", "qwen2", {"head": "yes_no"}),
    "several_files": ("causal_lm", "several_files", {"head": "yes_no"}),
    "lora": ("causal_lm", "several_files", {"lora": {"rank": 4}}),
    "bfloat16": ("causal_lm", "bfloat16", {}),
    "tied_embeddings": ("causal_lm", "tied_embeddings", {"head": "yes_no"}),
    **{kind: ("recurrent", kind, {}) for kind in ("mamba", "mamba2", "recurrent_gemma")},
}
"""Read row by row, but for `tk`, whose one table is read whole."""
CONVERTED = {"converted": ("causal_lm", "converted", {})}
"""Transformers fuses this checkpoint's weights as it reads: read whole."""


class LiveBytes(TorchDispatchMode):
    """Bytes of CPU memory that tensors made inside hold: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for leaf in tree_leaves(result):
            if type(leaf) is torch.Tensor and leaf.device.type == "cpu":
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compare(key: str, folder: Path, options: dict[str, Any]) -> dict[str, bool]:
    cpu = torch.device("cpu")
    whole = RANKERS[key].from_backbone(str(folder), **(CAPS | options))
    parts = build(whole.spec, 0, "fsdp", cpu)
    empty = {name for name, parameter in parts.named_parameters() if parameter.is_meta}
    assert shard(parts, "fsdp", cpu) is parts
    mine = parts.state_dict()
    theirs = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    buffers = dict(parts.named_buffers()), dict(whole.named_buffers())
    flags = [{name: p.requires_grad for name, p in one.named_parameters()} for one in (parts, whole)]
    from_checkpoint = _from_checkpoint(whole)
    # The same products on memory that is laid out in the same way.
    shard(whole, "fsdp", cpu)
    tokens = whole.tokenise(QUERIES), [whole.tokenise(row) for row in DOCS]
    scores = [one.score_tokens(*tokens) for one in (whole, parts)]
    return {
        "row by row": empty == from_checkpoint,
        "weights": list(mine) == list(theirs) and all(torch.equal(whole_tensor(mine[n]), theirs[n]) for n in theirs),
        "buffers": all(torch.equal(buffers[0][name], buffers[1][name]) for name in buffers[1]),
        "trained": flags[0] == flags[1],
        "fresh": parts.fresh_parameters() == whole.fresh_parameters(),
        "scores": bool((scores[0] == scores[1]).all()),
    }


def _from_checkpoint(ranker: Ranker) -> set[str]:
    """Parameters that are neither heads nor adapters."""
    backbones = tuple(f"{attribute}." for attribute in ranker.backbones().values())
    names = {name for name, _ in ranker.named_parameters() if name.startswith(backbones or ("\0",))}
    return {name for name in names - ranker.fresh_parameters() if "lora_" not in name}


def count_bytes(folder: Path) -> dict[str, int]:
    """What one rank holds at most while a ranker comes into being, and what it keeps."""
    spec = RANKERS["causal_lm"].spec_class.model_validate({"ranker": "causal_lm", "backbone": str(folder)} | CAPS)
    with LiveBytes() as whole:
        ranker = RANKERS["causal_lm"].from_spec(spec)
    sizes = [parameter.numel() * 4 for parameter in ranker.parameters()]
    del ranker
    with LiveBytes() as parts:
        ranker = build(spec, 0, "fsdp", torch.device("cpu"))
        shard(ranker, "fsdp", torch.device("cpu"))
    kept = sum(parameter.to_local().numel() * 4 for parameter in ranker.parameters())
    return {"all": sum(sizes), "largest": max(sizes), "whole": whole.most, "parts": parts.most, "kept": kept}


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    root = Path(sys.argv[1])
    found: dict[str, Any] = {
        name: compare(key, root / folder, options) for name, (key, folder, options) in (CASES | CONVERTED).items()
    }
    print(json.dumps(found | {"bytes": count_bytes(root / "wide")}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
