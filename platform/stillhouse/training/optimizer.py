"""Optimiser, its parameter groups and the learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import OptimizerSpec


def make_optimizer(ranker: Ranker, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam or AdamW; biases and norms are not decayed, fresh parameters may have a rate of their own."""
    fresh = ranker.fresh_parameters()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in ranker.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in fresh, parameter.ndim >= 2), []).append(parameter)
    head_rate = spec.head_learning_rate or spec.learning_rate
    settings = [
        {
            "params": parameters,
            "lr": head_rate if is_fresh else spec.learning_rate,
            "base_lr": head_rate if is_fresh else spec.learning_rate,
            "weight_decay": spec.weight_decay if decays else 0.0,
        }
        for (is_fresh, decays), parameters in sorted(groups.items())
    ]
    kind: type[torch.optim.Adam] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[spec.name]
    return kind(settings, lr=spec.learning_rate, fused=True)


def schedule_factor(spec: OptimizerSpec, step: int, total_steps: int) -> float:
    """Share of the highest rate at a step (0-based): linear warm-up, then the schedule down to 0 after the last."""
    warmup = round(spec.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - warmup)
    if spec.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0 - progress


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
