"""The one training loop, for every architecture and loss. It knows no Ray: it reports through a function."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from stillhouse.errors import TrainingError
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.records import Group
from stillhouse.training import checkpoints, diagnostics, ranks
from stillhouse.training.batches import MicroBatch, make_micro_batch, rank_share
from stillhouse.training.checkpoints import Progress, Weights
from stillhouse.training.curve import CURVE, append_point, trim_curve
from stillhouse.training.dev import dev_measures
from stillhouse.training.groups import epoch_order, keyed_generator
from stillhouse.training.in_batch import InBatchStep
from stillhouse.training.interval import Interval
from stillhouse.training.job import Report, TrainingData, TrainingJob
from stillhouse.training.live_teacher import complete
from stillhouse.training.optimizer import make_optimizer, schedule_factor, set_rates
from stillhouse.training.step import run_passes

logger = logging.getLogger(__name__)


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
        live = self.data.live_for(stage)
        if live is not None and stage.groups.strategy == "uniform":
            shares = complete(shares, stage.groups, live)
        ids, docs = self.data.train_query_ids, self.data.doc_ids
        micros = [make_micro_batch(share, width, self.ranker, ids, docs, self.device) for share in shares]
        losses = {"loss": stage.loss, **stage.extra_losses}
        removed = sum(group.removed for share in shares for group, counts in share if counts)
        if stage.groups.strategy == "in_batch":
            sampler = self.data.sampler(stage, self.job.seed)
            key = (self.job.seed, *seed, ranks.rank())
            wide = InBatchStep(self.ranker, groups, micros, width, sampler, live, self._autocast, key)
            passes = run_passes(wide, [wide.wide], losses, self._autocast, self._describe_bad_batch)
            wide.finish()
            removed += wide.removed
        else:
            passes = run_passes(self.module, micros, losses, self._autocast, self._describe_bad_batch)
        if stage.groups.false_negative_margin is not None:
            interval.removed = (interval.removed or 0.0) + removed
        clipped = nn.utils.clip_grad_norm_(self.ranker.parameters(), stage.optimizer.max_grad_norm)
        norm = float(clipped.full_tensor() if hasattr(clipped, "full_tensor") else clipped)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        values = passes.values()
        interval.diagnostics += passes.diagnostics
        interval.count(len(groups), values, norm, time.perf_counter() - started)
        if ranks.rank() == 0:
            point = {"step": self.progress.total_step + 1, "grad_norm": norm, "time": time.time(), **values}
            append_point(self.checkpoint_folder, point)

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
        means = interval.means()
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
