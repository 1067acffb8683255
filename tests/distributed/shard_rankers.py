"""One of two ranks: python shard_rankers.py FOLDER. Each ranker under FSDP2 against the same ranker whole; prints JSON.

Gradient checkpointing is on in the sharded one only.

Rank 0 trains on a query with three documents, rank 1 on a query with one: in two pieces each, so that one is a dummy.
Checkpoints go both ways: FOLDER/one is written by one process before and read here, FOLDER/two is written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from stillhouse.rankers import RANKERS, Ranker
from stillhouse.recipe.tree import OptimizerSpec
from stillhouse.training import checkpoints, ranks
from stillhouse.training.optimizer import make_optimizer
from stillhouse.training.sharding import build, shard, unsharded_state

CAPS = {"query_max_length": 10, "doc_max_length": 40}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cross_encoder": ("cross_encoder", "bert", {}),
    "own_head": ("cross_encoder", "bert", {"pooling": "pooler"}),
    "dual_encoder": ("dual_encoder", "bert", {"learn_score_scale": True, "projection_dim": 16}),
    "untied": ("dual_encoder", "bert", {"tied": False, "freeze_word_embeddings": True}),
    "colbert": ("colbert", "bert", {"projection_dim": 16}),
    "prettr": ("prettr", "bert", {"num_separate_layers": 1}),
    "tk": ("tk", "bert", {}),
    "causal_lm": ("causal_lm", "qwen2", {"head": "yes_no"}),
    "recurrent": ("recurrent", "mamba", {}),
    "lora": ("causal_lm", "qwen2", {"lora": {"rank": 4}}),
    "lora_untied": ("dual_encoder", "bert", {"tied": False, "lora": {"rank": 3, "target": ["query", "value"]}}),
    "lora_recurrent": ("recurrent", "mamba", {"lora": {"rank": 4}, "gradient_checkpointing": True}),
}
CASES |= {
    f"{name}_checkpointed": (key, kind, options | {"gradient_checkpointing": True})
    for name, (key, kind, options) in CASES.items()
    if name in (*RANKERS, "lora")
}
# Gradient checkpointing leaves no trace in a checkpoint of a training.
GO_ON = [name for name, (_, _, options) in CASES.items() if "gradient_checkpointing" not in options]
QUERIES = ["river stone", "silver forest bridge"]
DOCS = [["river garden", "x", "needle " * 30], ["silver forest"]]
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.0]])


def loss_of(ranker: torch.nn.Module, tokens: Any, rows: slice) -> torch.Tensor:
    queries, docs = tokens
    batch = ranker.collate(queries[rows], docs[rows], num_chunks=2, width=3)
    scores_QK = ranker(batch)
    return (torch.where(batch.mask_QK, scores_QK, 0.0).tanh() * WEIGHTS[rows]).sum()


def make(root: Path, name: str) -> Ranker:
    """The whole ranker of a case, its adapters as a training would leave them."""
    key, kind, options = CASES[name]
    options = CAPS | options | {"gradient_checkpointing": False}
    ranker = RANKERS[key].from_backbone(str(root / kind), **options)
    move_adapters(ranker)
    return ranker.train()


def make_bare(root: Path, name: str) -> Ranker:
    """The same, built without weights, for `shard` to read them."""
    key, kind, options = CASES[name]
    spec = RANKERS[key].spec_class.model_validate({"ranker": key, "backbone": str(root / kind)} | CAPS | options)
    ranker = build(spec, 0, "fsdp", torch.device("cpu"))
    move_adapters(ranker)
    return ranker.train()


def move_adapters(ranker: Ranker) -> None:
    """As a training would leave them: while B is zero, A has no gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(ranker.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def train_step(ranker: Ranker, optimizer: torch.optim.Optimizer) -> None:
    """One step on all queries, each rank with its share."""
    tokens = ranker.tokenise(QUERIES), [ranker.tokenise(row) for row in DOCS]
    own = slice(ranks.rank(), ranks.rank() + 1) if ranks.world_size() > 1 else slice(0, 2)
    # Gradients are averaged over ranks; the loss is a sum over queries.
    (loss_of(ranker, tokens, own) * ranks.world_size()).backward()
    optimizer.step()
    optimizer.zero_grad()


def write_checkpoint(folder: Path, ranker: Ranker) -> None:
    """A checkpoint after one step, and beside it the weights after the second."""
    optimizer = make_optimizer(ranker, OptimizerSpec(learning_rate=1e-3))
    if all(parameter.grad is None for parameter in ranker.parameters()):
        train_step(ranker, optimizer)
    else:
        optimizer.step()
        optimizer.zero_grad()
    checkpoints.save(folder, ranker, optimizer, checkpoints.copy_weights(ranker), checkpoints.Progress(total_step=1))
    train_step(ranker, optimizer)
    state = unsharded_state(ranker)
    if ranks.rank() == 0:
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "after.safetensors")


def go_on(folder: Path, ranker: Ranker) -> dict[str, float]:
    """Take the second step from a checkpoint; mean and largest distance to the weights of who wrote it."""
    optimizer = make_optimizer(ranker, OptimizerSpec(learning_rate=1e-3))
    found = checkpoints.newest(folder)
    assert found is not None
    checkpoints.load(found[0], ranker, optimizer)
    train_step(ranker, optimizer)
    state, expected = unsharded_state(ranker), load_file(folder / "after.safetensors")
    if ranks.rank() > 0:
        return {}
    assert state.keys() == expected.keys()
    gaps = torch.cat([(state[name] - tensor).abs().flatten() for name, tensor in expected.items()])
    return {"mean": float(gaps.mean()), "largest": float(gaps.max())}


def compare(whole: Ranker, spread: Ranker) -> dict[str, float]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    tokens = whole.tokenise(QUERIES), [whole.tokenise(row) for row in DOCS]
    expected = loss_of(whole, tokens, slice(0, 2))
    expected.backward()
    module = shard(spread, "fsdp", torch.device("cpu"))
    assert any(isinstance(parameter, DTensor) for parameter in spread.parameters())
    loss = loss_of(module, tokens, slice(rank, rank + 1))
    # Gradients are averaged over ranks; the loss is a sum over queries.
    (loss * ranks).backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    gradients = dict(whole.named_parameters())
    gap = 0.0
    for name, parameter in spread.named_parameters():
        mine, other = parameter.grad, gradients[name].grad
        assert (mine is None) == (other is None), name
        if mine is not None and other is not None:
            full = mine.full_tensor() if isinstance(mine, DTensor) else mine
            gap = max(gap, float((full - other).abs().max() / other.abs().max().clamp(min=1e-3)))
    scores = [one.score_tokens(*tokens) for one in (whole, spread)]
    real = np.isfinite(scores[0])
    state = unsharded_state(spread)
    # Only rank 0 is given the whole weights.
    same = rank > 0 or all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())
    return {
        "loss": abs(float(total - expected.detach())),
        "gradient": gap,
        "score": float(np.abs(scores[0][real] - scores[1][real]).max()),
        "state": 0.0 if same else 1.0,
    }


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    root = Path(sys.argv[1])
    found = {}
    for name in CASES:
        spread = make_bare(root, name)
        found[name] = compare(make(root, name), spread)
        if name in GO_ON:
            write_checkpoint(root / "two" / name, spread)
            # Whatever its weights are by now: the checkpoint takes their place.
            found[name] |= go_on(root / "one" / name, spread)
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
