"""The only place that knows FSDP2 and DDP: a ranker in, the same ranker spread over the ranks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from stillhouse.errors import TrainingError
from stillhouse.rankers import RANKERS, mlm_head, skeleton
from stillhouse.rankers.base import Ranker
from stillhouse.training import ranks

Policy = Literal["auto", "none", "ddp", "fsdp"]

# Below this many parameters weights, gradients and Adam state (16 bytes each) fit any device whole.
SMALL = 500_000_000
# Elements of gradients in one exchange: enough to hide its latency, little beside the gradients themselves.
BUCKET = 8_000_000


def choose(policy: Policy, ranker: nn.Module) -> Policy:
    """One process needs nothing; `auto` is DDP for small models, FSDP2 for large ones.

    Raises TrainingError for `none` with several: each would train a copy of its own on its share of the queries.
    """
    if ranks.world_size() == 1:
        return "none"
    if policy == "none":
        raise TrainingError(
            f"scale.sharding: none leaves {ranks.world_size()} workers unconnected; set auto, ddp or fsdp, or "
            "num_workers to 1"
        )
    if policy != "auto":
        return policy
    return "ddp" if sum(parameter.numel() for parameter in ranker.parameters()) < SMALL else "fsdp"


def build(spec: Any, seed: int, policy: Policy, device: torch.device) -> Ranker:
    """A fresh ranker for `shard`: where FSDP2 will wrap it, its backbone's weights are still in their files.

    Raises BackboneError as `Ranker.from_spec` does.
    """
    kind = RANKERS[spec.ranker]
    if ranks.world_size() > 1 and policy in ("auto", "fsdp"):
        with skeleton.skeletons():
            ranker = kind.from_spec(spec, seed=seed)
        if choose(policy, ranker) == "fsdp":
            return ranker
    return kind.from_spec(spec, seed=seed).to(device)


def shard(ranker: Ranker, policy: Policy, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Spread a ranker over the ranks, on `device`; returns the module to call in training.

    FSDP2 shards in place: the ranker itself is returned, its parameters become DTensors; of weights still in their
    files each rank reads its own rows, one weight at a time. DDP returns a wrapper; the ranker stays whole inside.
    `dtype` is what FSDP2 gathers weights in on an accelerator.
    """
    chosen = choose(policy, ranker)
    if chosen == "ddp":
        # No buffer of a ranker changes, and a forward without exchange can fail on one rank alone.
        return DistributedDataParallel(ranker, broadcast_buffers=False)
    if chosen == "fsdp":
        _fully_shard(ranker, device, dtype)
    return ranker


def _fully_shard(ranker: Ranker, device: torch.device, dtype: torch.dtype) -> None:
    mesh = init_device_mesh(device.type, (ranks.world_size(),))
    # On CPU the caller's autocast does the mixed precision; weights are gathered in float32.
    precision = MixedPrecisionPolicy(param_dtype=dtype if device.type != "cpu" else None, reduce_dtype=torch.float32)
    large = sum(parameter.numel() for parameter in ranker.parameters()) >= SMALL
    for block in ranker.blocks():
        fully_shard(block, mesh=mesh, mp_policy=precision, reshard_after_forward=large)
    fully_shard(ranker, mesh=mesh, mp_policy=precision, reshard_after_forward=False)
    _fill(ranker, mesh, device)
    for name in (*ranker.forward_methods, "mask_logits"):
        # Without it a call past `forward` meets sharded weights and fails.
        register_fsdp_forward_method(ranker, name)


def _fill(ranker: Ranker, mesh: DeviceMesh, device: torch.device) -> None:
    """Read this rank's rows of every weight that is still in its file."""
    read: dict[str, nn.Parameter] = {}
    once: dict[int, nn.Parameter] = {}
    for path, module in ranker.named_modules():
        for leaf, stored in skeleton.stored_weights(module).items():
            parameter: Any = getattr(module, leaf)
            if not parameter.is_meta:
                # A buffer: every rank has it whole.
                parameter.copy_(stored.rows(0, stored.shape[0], parameter.dtype))
                continue
            if id(parameter) not in once:
                rows = _own_rows(parameter, stored, mesh).to(device)
                placed = DTensor.from_local(
                    rows, mesh, parameter.placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
                )
                once[id(parameter)] = nn.Parameter(placed, requires_grad=parameter.requires_grad)
            # Tied weights have several names and stay one parameter.
            read[f"{path}.{leaf}"] = once[id(parameter)]
    if read:
        ranker.load_state_dict(read, strict=False, assign=True)


def _own_rows(parameter: Any, stored: skeleton.Stored, mesh: DeviceMesh) -> torch.Tensor:
    """FSDP2 cuts the first dimension as torch.chunk does: equal pieces, the last ones shorter or empty."""
    size = -(-parameter.shape[0] // mesh.size())
    start = min(mesh.get_local_rank() * size, parameter.shape[0])
    return stored.rows(start, start + parameter.to_local().shape[0], parameter.dtype)


def whole_copy(ranker: Ranker, spec: Any, seed: int) -> Ranker | None:
    """The sharded ranker as one on this CPU, on rank 0; None on the others. All ranks have to call it together.

    The masked-language-model head stays behind: it only trains.
    """
    state = unsharded_state(ranker)
    state = {name: value for name, value in state.items() if not name.startswith(f"{mlm_head.HEAD}.")}
    if ranks.rank() != 0:
        return None
    with skeleton.skeletons():
        whole = RANKERS[spec.ranker].from_spec(spec, seed=seed)
    # Taken over, not copied: a large student is in memory once.
    whole.load_state_dict(state, assign=True)
    for attribute in whole.backbones().values():
        getattr(whole, attribute).tie_weights()
    return whole


def is_sharded(ranker: nn.Module) -> bool:
    """Whether FSDP2 has spread the weights, so that a forward is an exchange between ranks."""
    return any(isinstance(parameter, DTensor) for parameter in ranker.parameters())


def local_passes(module: nn.Module) -> AbstractContextManager[None]:
    """Passes in which DDP exchanges nothing: `average_gradients` does, once, when every rank has come through."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def average_gradients(module: nn.Module) -> None:
    """The mean over ranks of what `local_passes` added up. FSDP2 has done it in backward; one rank needs nothing."""
    if not isinstance(module, DistributedDataParallel):
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    for start, stop in _buckets([gradient.numel() for gradient in gradients]):
        bucket = gradients[start:stop]
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        flat /= ranks.world_size()
        for gradient, mean in zip(bucket, torch.split(flat, [gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _buckets(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of gradients of about BUCKET elements, at least one each."""
    start = total = 0
    for place, size in enumerate(sizes):
        total += size
        if total >= BUCKET:
            yield start, place + 1
            start, total = place + 1, 0
    if start < len(sizes):
        yield start, len(sizes)


def unsharded_state(ranker: nn.Module) -> dict[str, torch.Tensor]:
    """The whole weights on CPU, on rank 0; empty on the others. All ranks have to call it together."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(ranker, options=options))
