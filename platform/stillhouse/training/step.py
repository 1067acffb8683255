"""Forward and backward passes of one step: what the micro-batches of a step add to the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from stillhouse.errors import TrainingError
from stillhouse.losses import LOSSES
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import Batch
from stillhouse.recipe.losses import ExtraLossSpec, LossSpec, Mlm
from stillhouse.recipe.tree import StageSpec
from stillhouse.training import diagnostics, ranks
from stillhouse.training.batches import MicroBatch
from stillhouse.training.masking import Masked, masked_inputs


@dataclass(frozen=True)
class Inputs:
    """A micro-batch, and its inputs with hidden tokens for each masked-language-model loss."""

    micro: MicroBatch
    masked: dict[str, list[Masked]] = field(default_factory=dict)
    removed: int = 0
    """Possible negatives that were left out as likely positives."""


@dataclass(frozen=True)
class Passes:
    """Sum of value x weight of each loss on this rank, its weight over all ranks, and what the scores say."""

    sums: dict[str, float]
    totals: dict[str, float]
    diagnostics: list[diagnostics.Sums]
    removed: int = 0
    """Possible negatives that were left out as likely positives, on this rank."""

    def values(self) -> dict[str, float]:
        """Each loss of the step over all ranks; a loss without anything to say is left out. Every rank calls it."""
        summed = dict(zip(self.sums, ranks.sum_over_ranks(list(self.sums.values())), strict=True))
        return {name: value / self.totals[name] for name, value in summed.items() if self.totals[name]}


def losses_of(stage: StageSpec) -> dict[str, ExtraLossSpec]:
    """Every loss of a stage under the name it is logged by."""
    return {"loss": stage.loss, **stage.extra_losses}


def mask_losses(stage: StageSpec) -> dict[str, Mlm]:
    """Its losses on tokens instead of scores."""
    return {name: loss for name, loss in stage.extra_losses.items() if isinstance(loss, Mlm)}


def make_inputs(
    micro: MicroBatch, stage: StageSpec, ranker: Ranker, key: tuple[object, ...], removed: int = 0
) -> Inputs:
    """`key`: what the choice of hidden tokens depends on, beside the query and its document."""
    masked = {
        name: masked_inputs(micro, ranker, loss.mask_probability, (name, *key))
        for name, loss in mask_losses(stage).items()
    }
    return Inputs(micro, masked, removed)


def local_weights(losses: Mapping[str, ExtraLossSpec], inputs: Sequence[Inputs]) -> list[float]:
    """Weight of each loss over this rank's micro-batches, known before any forward."""
    return [sum(_weight(name, loss, each) for each in inputs) for name, loss in losses.items()]


def _weight(name: str, loss: ExtraLossSpec, inputs: Inputs) -> float:
    if isinstance(loss, Mlm):
        return float(sum(masked.count for masked in inputs.masked[name]))
    return float(_weighted_sum(loss, torch.zeros_like(inputs.micro.teacher_QK), inputs.micro)[1])


@dataclass
class StepRunner:
    """Runs the micro-batches of one step on this rank; `describe` names the batch of a loss that is not finite."""

    module: Callable[[Batch], torch.Tensor]
    ranker: Ranker
    losses: Mapping[str, ExtraLossSpec]
    totals: dict[str, float]
    autocast: Callable[[], AbstractContextManager[None]]
    describe: Callable[[MicroBatch, float], str]

    def run(self, inputs: Sequence[Inputs]) -> Passes:
        """Backward of every micro-batch: gradients are those of the sum of weight x mean over the whole step."""
        sums = dict.fromkeys(self.losses, 0.0)
        found = []
        for each in inputs:
            found.append(self._scores(each.micro, sums))
            for name, parts in each.masked.items():
                # Apart from the scores' pass, so that the two never stand in memory together.
                for masked in parts if self.totals[name] > 0 else ():
                    with self.autocast():
                        value = masked.loss_sum(self.ranker)
                    sums[name] += float(value.detach())
                    self._backward(value * self._factor(name), each.micro)
        return Passes(sums, self.totals, found, sum(each.removed for each in inputs))

    def _scores(self, micro: MicroBatch, sums: dict[str, float]) -> diagnostics.Sums:
        with self.autocast():
            student_QK = self.module(micro.batch)
        objective = torch.where(micro.mask_QK, student_QK, 0.0).sum() * 0.0
        for name, loss in self.losses.items():
            if isinstance(loss, Mlm):
                continue
            value = _weighted_sum(loss, student_QK, micro)[0]
            sums[name] += float(value.detach())
            if self.totals[name] > 0:
                objective = objective + value * self._factor(name)
        self._backward(objective, micro)
        counted_QK = micro.mask_QK & (micro.counts_Q > 0).unsqueeze(1)
        return diagnostics.diagnose(student_QK.detach(), micro.teacher_QK, micro.label_QK, counted_QK)

    def _factor(self, name: str) -> float:
        """Turns this rank's sum into its share of the mean; gradients are averaged over ranks."""
        return self.losses[name].weight * ranks.world_size() / self.totals[name]

    def _backward(self, objective: torch.Tensor, micro: MicroBatch) -> None:
        if not torch.isfinite(objective):
            raise TrainingError(self.describe(micro, float(objective)))
        torch.autograd.backward(objective)


def _weighted_sum(loss: LossSpec, student_QK: torch.Tensor, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of value x weight, and sum of weights, of one micro-batch; padding queries weigh nothing."""
    parameters = loss.model_dump(exclude={"name", "weight"})
    value_Q, weight_Q = LOSSES[loss.name](student_QK, micro.teacher_QK, micro.label_QK, micro.mask_QK, **parameters)
    weight_Q = weight_Q * micro.counts_Q
    return (value_Q * weight_Q).sum(), weight_Q.sum()
