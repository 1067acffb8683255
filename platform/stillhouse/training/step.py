"""Forward and backward passes of one step: what the micro-batches of a step add to the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stillhouse.errors import TrainingError
from stillhouse.losses import LOSSES
from stillhouse.rankers.batching import Batch
from stillhouse.recipe.losses import LossSpec
from stillhouse.training import diagnostics, ranks
from stillhouse.training.batches import MicroBatch


@dataclass(frozen=True)
class Passes:
    """Sum of value x weight of each loss on this rank, its weight over all ranks, and what the scores say."""

    sums: dict[str, float]
    totals: dict[str, float]
    diagnostics: list[diagnostics.Sums]

    def values(self) -> dict[str, float]:
        """Each loss of the step over all ranks; a loss without anything to say is left out. Every rank calls it."""
        summed = dict(zip(self.sums, ranks.sum_over_ranks(list(self.sums.values())), strict=True))
        return {name: value / self.totals[name] for name, value in summed.items() if self.totals[name]}


def run_passes(
    module: Callable[[Batch], torch.Tensor],
    micros: Sequence[MicroBatch],
    losses: Mapping[str, LossSpec],
    autocast: Callable[[], AbstractContextManager[None]],
    describe: Callable[[MicroBatch, float], str],
) -> Passes:
    """Backward of every micro-batch; `describe` names the batch of a loss that is not finite."""
    totals = _total_weights(losses, micros)
    sums = dict.fromkeys(losses, 0.0)
    found = []
    for micro in micros:
        with autocast():
            student_QK = module(micro.batch)
        objective = torch.where(micro.mask_QK, student_QK, 0.0).sum() * 0.0
        for name, loss in losses.items():
            value = _weighted_sum(loss, student_QK, micro)[0]
            sums[name] += float(value.detach())
            if totals[name] > 0:
                objective = objective + loss.weight * value * (ranks.world_size() / totals[name])
        if not torch.isfinite(objective):
            raise TrainingError(describe(micro, float(objective)))
        torch.autograd.backward(objective)
        found.append(diagnostics.diagnose(student_QK.detach(), micro.teacher_QK, micro.label_QK, _counted(micro)))
    return Passes(sums, totals, found)


def _total_weights(losses: Mapping[str, LossSpec], micros: Sequence[MicroBatch]) -> dict[str, float]:
    """Weight of each loss over all micro-batches and ranks, known before backward."""
    local = [
        sum(float(_weighted_sum(loss, torch.zeros_like(micro.teacher_QK), micro)[1]) for micro in micros)
        for loss in losses.values()
    ]
    return dict(zip(losses, ranks.sum_over_ranks(local), strict=True))


def _counted(micro: MicroBatch) -> torch.Tensor:
    return micro.mask_QK & (micro.counts_Q > 0).unsqueeze(1)


def _weighted_sum(loss: LossSpec, student_QK: torch.Tensor, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of value x weight, and sum of weights, of one micro-batch; padding queries weigh nothing."""
    parameters = loss.model_dump(exclude={"name", "weight"})
    value_Q, weight_Q = LOSSES[loss.name](student_QK, micro.teacher_QK, micro.label_QK, micro.mask_QK, **parameters)
    weight_Q = weight_Q * micro.counts_Q
    return (value_Q * weight_Q).sum(), weight_Q.sum()
