"""Optimiser, its parameter groups and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from stillhouse.errors import TrainingError
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import OptimizerSpec


def make_optimizer(ranker: Ranker, spec: OptimizerSpec, leave_out: Collection[str] = ()) -> torch.optim.Optimizer:
    """Adam or AdamW; biases and norms are not decayed, fresh parameters and kernels may have a rate of their own.

    `leave_out`: names of parameters that this stage does not train.
    """
    fresh, kernels = ranker.fresh_parameters(), ranker.kernel_parameters()
    if spec.kernel_learning_rate is not None and not kernels:
        raise TrainingError(f"optimizer.kernel_learning_rate: {ranker.key} has no kernels; take the key out")
    head_rate = spec.head_learning_rate or spec.learning_rate
    rates = {"backbone": spec.learning_rate, "fresh": head_rate, "kernel": spec.kernel_learning_rate or head_rate}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in ranker.named_parameters():
        if parameter.requires_grad and name not in leave_out:
            part = "kernel" if name in kernels else "fresh" if name in fresh else "backbone"
            groups.setdefault((part, decays(name, parameter)), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": rates[part],
            "base_lr": rates[part],
            "weight_decay": spec.weight_decay if decayed else 0.0,
        }
        for (part, decayed), parameters in sorted(groups.items())
    ]
    kind: type[torch.optim.Adam] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[spec.name]
    return kind(settings, lr=spec.learning_rate, fused=True)


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to norms, scales and biases (some have a row per head)."""
    return parameter.ndim >= 2 and not name.endswith("bias")


def schedule_factor(spec: OptimizerSpec, step: int, total_steps: int, plateau: float = 1.0) -> float:
    """Share of the highest rate at a step (0-based): linear warm-up, then the schedule.

    `linear` and `cosine` fall to 0 after the last step; `plateau` is the product of the reductions so far.
    """
    warmup = round(spec.warmup_fraction * total_steps)
    if step < warmup:
        return plateau * (step + 1) / (warmup + 1)
    if spec.schedule in ("constant", "plateau"):
        return plateau
    progress = (step - warmup) / max(1, total_steps - warmup)
    if spec.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0 - progress


def clip_gradients(ranker: nn.Module, spec: OptimizerSpec, place: str) -> float:
    """Scale the gradients down to a norm of `max_grad_norm`; returns what it was.

    TrainingError for one that is not finite, before it reaches the weights; `place` names the step.
    """
    clipped = nn.utils.clip_grad_norm_(ranker.parameters(), spec.max_grad_norm)
    norm = float(clipped.full_tensor() if hasattr(clipped, "full_tensor") else clipped)
    if not math.isfinite(norm):
        raise TrainingError(
            f"{place}: the norm of the gradient is {norm}, the loss is finite; the weights were left as they are: "
            "lower learning_rate or the weights of losses, raise the temperature, or set scale.dtype to float32"
        )
    return norm


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
