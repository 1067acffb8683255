"""The one training loop, for every architecture and loss. It knows no Ray: it reports through a function."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from stillhouse.errors import TrainingError
from stillhouse.losses import LOSSES
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.losses import LossSpec
from stillhouse.recipe.tree import StageSpec
from stillhouse.records import Group
from stillhouse.training import checkpoints, diagnostics, ranks
from stillhouse.training.batches import MicroBatch, make_micro_batch, rank_share
from stillhouse.training.checkpoints import Progress, Weights
from stillhouse.training.dev import dev_measures
from stillhouse.training.groups import epoch_order, keyed_generator
from stillhouse.training.job import Report, TrainingData, TrainingJob
from stillhouse.training.optimizer import make_optimizer, schedule_factor, set_rates

CURVE = "curve.jsonl"
logger = logging.getLogger(__name__)


@dataclass
class Interval:
    """What happened since the last report; sums, divided once when reported."""

    steps: int = 0
    taught: int = 0
    """Steps in which at least one query had something to say."""
    queries: float = 0.0
    seconds: float = 0.0
    grad_norm: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    diagnostics: list[dict[str, tuple[float, float]]] = field(default_factory=list)


@dataclass
class Trainer:
    """One training on one rank: `train_stage` for each stage in turn."""

    job: TrainingJob
    data: TrainingData
    ranker: Ranker
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    checkpoint_folder: Path
    report: Report
    progress: Progress = field(default_factory=Progress)
    order: tuple[int, list[int]] | None = None
    """The epoch at hand and its order of queries: a hash and a sort over all of them, so made once."""

    def train_stage(self, index: int, name: str, stage: StageSpec) -> dict[str, float]:
        """Train one stage from where it stands; returns the measures of the weights it ends with."""
        optimizer = make_optimizer(self.ranker, stage.optimizer)
        best = self._resume(index, optimizer)
        steps_per_epoch = -(-len(self.data.train_query_ids) // stage.queries_per_step)
        total = min(stage.epochs * steps_per_epoch, stage.max_steps or 10**12)
        stops = {math.ceil(total * (i + 1) / stage.evaluations) for i in range(stage.evaluations)}
        interval = Interval()
        while self.progress.step < total:
            step = self.progress.step
            groups = self._groups(stage, step, steps_per_epoch)
            set_rates(optimizer, schedule_factor(stage.optimizer, step, total))
            self._train_step(stage, groups, optimizer, interval, seed=(index, step))
            self.progress.step += 1
            self.progress.total_step += 1
            if self.progress.step in stops:
                best = self._evaluate(name, best, interval, optimizer)
                interval = Interval()
        if stage.restore_best and best:
            checkpoints.restore_weights(self.ranker, best)
        return {self.job.evaluation["select_by"]: self.progress.best_value or 0.0}

    def _resume(self, index: int, optimizer: torch.optim.Optimizer) -> Weights:
        """Best weights so far; a checkpoint of this stage is put in place."""
        found = checkpoints.newest(self.checkpoint_folder)
        if found is not None and found[1].stage == index:
            self.progress = found[1]
            best = checkpoints.load(found[0], self.ranker, optimizer)
        else:
            self.progress = Progress(stage=index, total_step=self.progress.total_step)
            best = {}
        if ranks.rank() == 0:
            trim_curve(self.checkpoint_folder / CURVE, self.progress.total_step)
        return best

    def _groups(self, stage: StageSpec, step: int, steps_per_epoch: int) -> list[Group]:
        epoch, position = divmod(step, steps_per_epoch)
        if self.order is None or self.order[0] != epoch:
            queries = self.data.collection.splits["train"].queries
            self.order = epoch, epoch_order(queries.ids, self.job.seed, epoch)
        rows = self.order[1][position * stage.queries_per_step : (position + 1) * stage.queries_per_step]
        sampler = self.data.sampler(stage, self.job.seed)
        groups = [sampler.group(row, epoch) for row in rows]
        return [group for group in groups if len(group.doc_rows_K)]

    def _train_step(
        self,
        stage: StageSpec,
        groups: Sequence[Group],
        optimizer: torch.optim.Optimizer,
        interval: Interval,
        seed: tuple[int, int],
    ) -> None:
        """Forward and backward of all micro-batches, one optimiser step."""
        started = time.perf_counter()
        if not groups:
            return
        # Dropout depends on the step alone, so that a resumed run repeats it.
        torch.manual_seed(int(keyed_generator(self.job.seed, *seed, ranks.rank()).integers(2**62)))
        self.ranker.train()
        width = stage.groups.num_negatives + 1
        shares = rank_share(groups, stage.queries_per_forward)
        ids, docs = self.data.train_query_ids, self.data.doc_ids
        micros = [make_micro_batch(share, width, self.ranker, ids, docs, self.device) for share in shares]
        losses = {"loss": stage.loss, **stage.extra_losses}
        totals = self._total_weights(losses, micros)
        sums = dict.fromkeys(losses, 0.0)
        for micro in micros:
            with self._autocast():
                student_QK = self.module(micro.batch)
            objective = torch.where(micro.mask_QK, student_QK, 0.0).sum() * 0.0
            for name, loss in losses.items():
                value = _weighted_sum(loss, student_QK, micro)[0]
                sums[name] += float(value.detach())
                if totals[name] > 0:
                    objective = objective + loss.weight * value * (ranks.world_size() / totals[name])
            if not torch.isfinite(objective):
                raise TrainingError(self._describe_bad_batch(micro, float(objective)))
            torch.autograd.backward(objective)
            interval.diagnostics.append(
                diagnostics.diagnose(student_QK.detach(), micro.teacher_QK, micro.label_QK, _counted(micro))
            )
        norm = nn.utils.clip_grad_norm_(self.ranker.parameters(), stage.optimizer.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._count(interval, groups, sums, totals, float(norm), time.perf_counter() - started)

    def _total_weights(self, losses: dict[str, LossSpec], micros: Sequence[MicroBatch]) -> dict[str, float]:
        """Weight of each loss over all micro-batches and ranks, known before backward."""
        local = [
            sum(float(_weighted_sum(loss, torch.zeros_like(micro.teacher_QK), micro)[1]) for micro in micros)
            for loss in losses.values()
        ]
        return dict(zip(losses, ranks.sum_over_ranks(local), strict=True))

    def _count(
        self,
        interval: Interval,
        groups: Sequence[Group],
        sums: dict[str, float],
        totals: dict[str, float],
        norm: float,
        seconds: float,
    ) -> None:
        values = dict(zip(sums, ranks.sum_over_ranks(list(sums.values())), strict=True))
        interval.steps += 1
        interval.taught += any(totals.values())
        interval.queries += len(groups)
        interval.seconds += seconds
        interval.grad_norm += norm
        for name, value in values.items():
            interval.losses[name] = interval.losses.get(name, 0.0) + (value / totals[name] if totals[name] else 0.0)
        if ranks.rank() == 0:
            point = {"step": self.progress.total_step + 1, "grad_norm": norm, "time": time.time()}
            point |= {name: value / totals[name] for name, value in values.items() if totals[name]}
            with (self.checkpoint_folder / CURVE).open("a") as stream:
                stream.write(json.dumps(point) + "\n")

    def _evaluate(self, name: str, best: Weights, interval: Interval, optimizer: torch.optim.Optimizer) -> Weights:
        """Dev measures, the best weights so far, a checkpoint, a report."""
        started = time.perf_counter()
        if interval.steps and not interval.taught:
            raise TrainingError(
                f"stage {name}: no query had anything to learn from; are there teacher scores and labels?"
            )
        with self._autocast():
            measures = dev_measures(self.ranker, self.module, self.data, self.job.evaluation_spec, self.device)
        value = measures[self.job.evaluation["select_by"]]
        if self.progress.best_value is None or value > self.progress.best_value:
            self.progress.best_value, self.progress.best_step = value, self.progress.step
            best = checkpoints.copy_weights(self.ranker)
        means = _means(interval)
        if ranks.rank() == 0:
            for alarm in diagnostics.alarms({key.removeprefix("train/"): value for key, value in means.items()}):
                logger.warning("stage %s, step %d: %s", name, self.progress.total_step, alarm)
        metrics = measures | means
        metrics["train/evaluation_seconds"] = time.perf_counter() - started
        checkpoints.save(self.checkpoint_folder, self.ranker, optimizer, best, self.progress)
        self.report(metrics, self.progress.total_step)
        return best

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def _describe_bad_batch(self, micro: MicroBatch, value: float) -> str:
        ids = self.data.collection.splits["train"].queries.ids
        names = ", ".join(ids[row] for row in micro.query_rows[:8])
        return (
            f"the loss is {value} at step {self.progress.total_step + 1}, before the optimiser step; queries: {names}; "
            "lower the learning rate or raise the temperature"
        )


def trim_curve(path: Path, last_step: int) -> None:
    """Drop the points of steps that a kill undid."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
        path.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """The step of a curve's line; a line that a full disk or a kill has torn is past every step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _counted(micro: MicroBatch) -> torch.Tensor:
    return micro.mask_QK & (micro.counts_Q > 0).unsqueeze(1)


def _weighted_sum(loss: LossSpec, student_QK: torch.Tensor, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of value x weight, and sum of weights, of one micro-batch; padding queries weigh nothing."""
    parameters = loss.model_dump(exclude={"name", "weight"})
    value_Q, weight_Q = LOSSES[loss.name](student_QK, micro.teacher_QK, micro.label_QK, micro.mask_QK, **parameters)
    weight_Q = weight_Q * micro.counts_Q
    return (value_Q * weight_Q).sum(), weight_Q.sum()


def _means(interval: Interval) -> dict[str, float]:
    """The interval's sums over all ranks, divided once."""
    merged = diagnostics.merge(interval.diagnostics)
    flat = [number for pair in merged.values() for number in pair]
    summed = ranks.sum_over_ranks(flat)
    pairs = {name: (summed[2 * i], summed[2 * i + 1]) for i, name in enumerate(merged)}
    means = {f"train/{name}": value for name, value in diagnostics.means(pairs).items()}
    steps = max(1, interval.steps)
    means |= {f"train/{name}": value / steps for name, value in interval.losses.items()}
    means["train/grad_norm"] = interval.grad_norm / steps
    means["train/queries_per_second"] = interval.queries / max(interval.seconds, 1e-9)
    means["train/step_seconds"] = interval.seconds / steps
    return means
