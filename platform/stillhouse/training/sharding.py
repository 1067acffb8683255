"""The only place that knows FSDP2 and DDP: a ranker in, the same ranker spread over the ranks out."""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from stillhouse.rankers.base import Ranker
from stillhouse.training import ranks

Policy = Literal["auto", "none", "ddp", "fsdp"]

# Below this many parameters weights, gradients and Adam state (16 bytes each) fit any device whole.
SMALL = 500_000_000


def choose(policy: Policy, ranker: nn.Module) -> Policy:
    """One process needs nothing; `auto` is DDP for small models, FSDP2 for large ones."""
    if ranks.world_size() == 1:
        return "none"
    if policy != "auto":
        return policy
    return "ddp" if sum(parameter.numel() for parameter in ranker.parameters()) < SMALL else "fsdp"


def shard(ranker: Ranker, policy: Policy, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Spread a ranker over the ranks; returns the module to call in training.

    FSDP2 shards in place: the ranker itself is returned, its parameters become DTensors. DDP returns a wrapper; the
    ranker stays whole inside. `dtype` is what FSDP2 gathers weights in on an accelerator.
    """
    chosen = choose(policy, ranker)
    if chosen == "ddp":
        return DistributedDataParallel(ranker)
    if chosen == "fsdp":
        _fully_shard(ranker, dtype)
    return ranker


def _fully_shard(ranker: Ranker, dtype: torch.dtype) -> None:
    device = next(ranker.parameters()).device.type
    mesh = init_device_mesh(device, (ranks.world_size(),))
    # On CPU the caller's autocast does the mixed precision; weights are gathered in float32.
    precision = MixedPrecisionPolicy(param_dtype=dtype if device != "cpu" else None, reduce_dtype=torch.float32)
    large = sum(parameter.numel() for parameter in ranker.parameters()) >= SMALL
    for block in ranker.blocks():
        fully_shard(block, mesh=mesh, mp_policy=precision, reshard_after_forward=large)
    fully_shard(ranker, mesh=mesh, mp_policy=precision, reshard_after_forward=False)
    for name in ranker.forward_methods:
        # Without it a call past `forward` meets sharded weights and fails.
        register_fsdp_forward_method(ranker, name)


def average_gradients(ranker: nn.Module) -> None:
    """Mean over ranks of whole gradients, for a backward that did not go through DDP's wrapper.

    FSDP2 reduces those of its sharded parameters itself.
    """
    if ranks.world_size() == 1:
        return
    gradients = [one.grad for one in ranker.parameters() if one.grad is not None and not isinstance(one, DTensor)]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= ranks.world_size()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient))


def unsharded_state(ranker: nn.Module) -> dict[str, torch.Tensor]:
    """The whole weights on CPU, on rank 0; empty on the others. All ranks have to call it together."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(ranker, options=options))
