"""The processes of one training: who am I, and sums over all of us. One process needs no process group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Element-wise sum over all ranks, in float64."""
    if world_size() == 1:
        return list(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.cpu()]


def on_any(failed: bool) -> bool:
    """Whether it is so on at least one rank; every rank gets the same answer."""
    return sum_over_ranks([float(failed)])[0] > 0


def gather_objects(value: object) -> list[object]:
    """The value of every rank, on every rank."""
    if world_size() == 1:
        return [value]
    gathered: list[object] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def gather_rows(local_ND: torch.Tensor) -> torch.Tensor:
    """The rows of every rank, rank after rank, on every rank; each must bring the same number.

    A row's gradient is the sum over the ranks that used it.
    """
    if world_size() == 1:
        return local_ND
    gathered: torch.Tensor = _GatherRows.apply(local_ND)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_ND: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(local_ND) for _ in range(world_size())]
        dist.all_gather(parts, local_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total_ND = gradients[0].contiguous().clone()
        dist.all_reduce(total_ND)
        return total_ND.chunk(world_size())[rank()]


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()
