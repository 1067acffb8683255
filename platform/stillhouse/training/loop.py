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

from stillhouse.collection.tokens import Rows
from stillhouse.rankers import mlm_head
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.records import Group
from stillhouse.training import checkpoints, diagnostics, evaluations, memory, ranks, sharding
from stillhouse.training.batches import MicroBatch, make_micro_batch, rank_share, token_dropout
from stillhouse.training.checkpoints import Progress, Weights
from stillhouse.training.costs import measure_costs
from stillhouse.training.curve import append_point, trim_curve
from stillhouse.training.groups import epoch_order, keyed_generator, rows_with_prefix
from stillhouse.training.in_batch import InBatchStep
from stillhouse.training.interval import Interval
from stillhouse.training.job import Report, TrainingData, TrainingJob
from stillhouse.training.live_teacher import LiveTeacher, complete
from stillhouse.training.measuring import Measurer
from stillhouse.training.notice import Notice
from stillhouse.training.optimizer import clip_gradients, make_optimizer, schedule_factor, set_rates
from stillhouse.training.step import (
    Inputs,
    Passes,
    StepRunner,
    local_weights,
    losses_of,
    make_inputs,
    mask_losses,
)

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
    costs: bool = False
    """Measure time and size with the last evaluation of all; on one rank only."""
    notice: Notice = field(default_factory=Notice)
    progress: Progress = field(default_factory=Progress)
    rows: list[int] = field(default_factory=list)
    """The train queries of the stage at hand."""
    order: tuple[int, list[int]] | None = None
    """The epoch at hand and its order of queries: a hash and a sort over all of them, so made once."""
    sharded: bool = field(init=False)
    measurer: Measurer = field(init=False)

    def __post_init__(self) -> None:
        # Asked once: a forward that failed half-way leaves whole weights in the place of the shards.
        self.sharded = sharding.is_sharded(self.ranker)
        self.measurer = Measurer(
            self.job,
            self.data,
            self.ranker,
            self.module,
            self.device,
            self.checkpoint_folder,
            self._autocast,
            self.sharded,
        )

    def train_stage(self, index: int, name: str, stage: StageSpec) -> dict[str, float]:
        """Train one stage from where it stands; returns the measures of the weights it ends with."""
        optimizer = make_optimizer(self.ranker, stage.optimizer, self._untrained(stage))
        best = self._resume(index, optimizer)
        self._choose_size(index, name, stage, optimizer)
        ids = self.data.collection.splits["train"].queries.ids
        self.rows, self.order = rows_with_prefix(ids, stage.query_prefix), None
        steps_per_epoch = -(-len(self.rows) // stage.queries_per_step)
        total = min(stage.epochs * steps_per_epoch, stage.max_steps or 10**12)
        stops = {math.ceil(total * (i + 1) / stage.evaluations) for i in range(stage.evaluations)}
        interval = Interval()
        self.measurer.keep_first_scores(self.progress.total_step, name, stage, memory.size_of(self.progress, stage))
        while self.progress.step < total and not self.progress.stopped:
            step = self.progress.step
            groups = self._groups(stage, step, steps_per_epoch)
            set_rates(optimizer, schedule_factor(stage.optimizer, step, total, self.progress.plateau))
            self._train_step(name, stage, groups, optimizer, interval, key=(index, step))
            self.progress.step += 1
            self.progress.total_step += 1
            if self.progress.step in stops:
                best = self._evaluate(name, stage, best, interval, optimizer, self.progress.step == total)
                interval = Interval()
            if self.notice.given():
                if self.progress.step not in stops:
                    checkpoints.save(self.checkpoint_folder, self.ranker, optimizer, best, self.progress)
                self.notice.saved(self.progress.total_step)
        if stage.restore_best and best:
            checkpoints.restore_weights(self.ranker, best)
        return {self.job.evaluation["select_by"]: self.progress.best_value or 0.0}

    def _untrained(self, stage: StageSpec) -> set[str]:
        """Parameters without a gradient in a stage: the masked-language-model head where no loss reads it."""
        names = {name for name, _ in self.ranker.named_parameters() if name.startswith(f"{mlm_head.HEAD}.")}
        return set() if mask_losses(stage) else names

    def _resume(self, index: int, optimizer: torch.optim.Optimizer) -> Weights:
        """Best weights so far; a checkpoint of this stage is put in place."""
        found = checkpoints.newest(self.checkpoint_folder)
        if found is not None and found[1].stage == index:
            self.progress = found[1]
            best = checkpoints.load(found[0], self.ranker, optimizer, self.progress.best_value is not None)
        else:
            self.progress = Progress(stage=index, total_step=self.progress.total_step)
            best = {}
        if ranks.rank() == 0:
            for file in evaluations.LINES:
                trim_curve(self.checkpoint_folder / file, self.progress.total_step)
        return best

    def _groups(self, stage: StageSpec, step: int, steps_per_epoch: int) -> list[Group]:
        epoch, position = divmod(step, steps_per_epoch)
        if self.order is None or self.order[0] != epoch:
            ids = self.data.collection.splits["train"].queries.ids
            order = epoch_order([ids[row] for row in self.rows], self.job.seed, epoch)
            self.order = epoch, [self.rows[place] for place in order]
        rows = self.order[1][position * stage.queries_per_step : (position + 1) * stage.queries_per_step]
        sampler = self.data.sampler(stage, self.job.seed)
        groups = [sampler.group(row, epoch) for row in rows]
        return [group for group in groups if len(group.doc_rows_K)]

    def _train_step(
        self,
        name: str,
        stage: StageSpec,
        groups: Sequence[Group],
        optimizer: torch.optim.Optimizer,
        interval: Interval,
        key: tuple[int, int],
    ) -> None:
        """Forward and backward of all micro-batches, one optimiser step."""
        started = time.perf_counter()
        if not groups:
            interval.empty += 1
            return
        rows = self.data.train_query_ids, self.data.doc_ids
        while (passes := self._attempt(name, stage, groups, rows, key)) is None:
            memory.halve(self.progress, name, stage)
        sharding.average_gradients(self.module)
        norm = clip_gradients(self.ranker, stage.optimizer, f"stage {name}, step {self.progress.total_step + 1}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        values = passes.values()
        interval.add(passes.diagnostics)
        if stage.groups.false_negative_margin is not None:
            interval.removed = (interval.removed or 0.0) + passes.removed
        interval.count(len(groups), values, norm, time.perf_counter() - started)
        if ranks.rank() == 0:
            point = {"step": self.progress.total_step + 1, "grad_norm": norm, "time": time.time(), **values}
            point |= self._settings(optimizer)
            append_point(self.checkpoint_folder, point)

    def _settings(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """What a step was made with: the rate of the first group (the backbone's, where it is trained), the size."""
        return {
            "learning_rate": float(optimizer.param_groups[0]["lr"]),
            "queries_per_forward": float(self.progress.queries_per_forward or 1),
        }

    def _attempt(
        self, name: str, stage: StageSpec, groups: Sequence[Group], rows: tuple[Rows, Rows], key: tuple[int, int]
    ) -> Passes | None:
        """The passes of a step; None, and no gradients, where any rank ran out of memory."""
        # Dropout depends on the step alone, so that a resumed run repeats it.
        torch.manual_seed(int(keyed_generator(self.job.seed, *key, ranks.rank()).integers(2**62)))
        self.ranker.train()
        losses = losses_of(stage)
        guard = memory.Guard()
        inputs: list[Inputs] = []
        weights = [0.0] * len(losses)
        wide = None
        with guard:
            live = self._live(stage, key)
            inputs = self._inputs(stage, groups, rows, key, live)
            if stage.groups.strategy == "in_batch":
                sampler, seed = self.data.sampler(stage, self.job.seed), (self.job.seed, *key, ranks.rank())
                wide = InBatchStep(self.ranker, groups, inputs, sampler, live, self._autocast, seed)
                inputs = wide.inputs
            weights = local_weights(losses, inputs)
        *weights, failed = ranks.sum_over_ranks([*weights, float(guard.failed)])
        if failed:
            return None
        totals = dict(zip(losses, weights, strict=True))
        forward = self.module if wide is None else wide
        runner = StepRunner(forward, self.ranker, losses, totals, self._autocast, self._describe_bad_batch)
        passes = None
        with guard, sharding.local_passes(self.module):
            passes = runner.run(inputs)
            if wide is not None:
                wide.finish()
        if guard.failed and (self.sharded or (wide is not None and ranks.world_size() > 1)):
            memory.start_again(self.checkpoint_folder, name, stage, memory.size_of(self.progress, stage))
        if ranks.on_any(guard.failed):
            self.ranker.zero_grad(set_to_none=True)
            return None
        return passes

    def _live(self, stage: StageSpec, key: tuple[int, int]) -> LiveTeacher | None:
        """The teacher that scores in this step; the try for memory, before the first step, has no texts to score."""
        return None if key[1] < 0 else self.data.live_for(stage)

    def _inputs(
        self,
        stage: StageSpec,
        groups: Sequence[Group],
        rows: tuple[Rows, Rows],
        key: tuple[int, int],
        live: LiveTeacher | None,
    ) -> list[Inputs]:
        """This rank's micro-batches of a step."""
        cut = None
        if stage.token_dropout > 0:
            caps = {"query": self.ranker.spec.query_max_length, "doc": self.ranker.spec.doc_max_length}
            cut = token_dropout(stage.token_dropout, caps, (self.job.seed, *key))
        width = stage.groups.num_negatives + 1
        inputs = []
        shares = rank_share(groups, self.progress.queries_per_forward or 1)
        if live is not None and stage.groups.strategy == "uniform":
            shares = complete(shares, stage.groups, live)
        for share in shares:
            micro = make_micro_batch(share, width, self.ranker, *rows, self.device, cut)
            removed = sum(group.removed for group, counts in share if counts)
            inputs.append(make_inputs(micro, stage, self.ranker, (self.job.seed, *key), removed))
        return inputs

    def _choose_size(self, index: int, name: str, stage: StageSpec, optimizer: torch.optim.Optimizer) -> None:
        """Set the size of micro-batches, where no checkpoint has it."""
        if self.progress.queries_per_forward is not None or not memory.first_size(
            self.progress, self.checkpoint_folder, name, stage
        ):
            return
        rows = memory.longest_rows(self.ranker, self.data.train_query_ids, self.data.doc_ids)
        groups = memory.longest_groups(stage, self.progress.queries_per_forward or 1, self.data.collection)
        # The optimiser's two averages come with its first step; their room is not the micro-batches'.
        kept = memory.room_for_averages(optimizer)
        while self._attempt(name, stage, groups, rows, (index, -1)) is None:
            memory.halve(self.progress, name, stage)
        del kept
        self.ranker.zero_grad(set_to_none=True)
        if ranks.rank() == 0:
            logger.info("stage %s: queries_per_forward %d fits", name, self.progress.queries_per_forward)

    def _evaluate(
        self,
        name: str,
        stage: StageSpec,
        best: Weights,
        interval: Interval,
        optimizer: torch.optim.Optimizer,
        is_last: bool,
    ) -> Weights:
        """Dev measures, the best weights so far, a checkpoint, a report."""
        started = time.perf_counter()
        interval.check(name)
        measures = self.measurer.measure(self.progress.total_step, name, stage, memory.size_of(self.progress, stage))
        value = measures[self.job.evaluation["select_by"]]
        is_best = self.progress.record(value, stage)
        if is_best:
            best = checkpoints.copy_weights(self.ranker)
        if is_best or not stage.restore_best:
            self.measurer.keep_values(self.progress.total_step)
        means = interval.means()
        if ranks.rank() == 0:
            for alarm in diagnostics.alarms({key.removeprefix("train/"): value for key, value in means.items()}):
                logger.warning("stage %s, step %d: %s", name, self.progress.total_step, alarm)
            if self.progress.stopped:
                logger.info("stage %s ends early at step %d", name, self.progress.total_step)
        metrics = measures | means
        metrics |= {f"train/{key}": value for key, value in self._settings(optimizer).items()}
        metrics["train/evaluation_seconds"] = time.perf_counter() - started
        # Figures on CPU depend on it.
        metrics["system/threads"] = float(torch.get_num_threads())
        if self.costs and (is_last or self.progress.stopped) and name == list(self.job.stages)[-1]:
            with self._autocast():
                metrics |= measure_costs(self.ranker, self.data)
        if ranks.rank() == 0:
            evaluations.append_metrics(self.checkpoint_folder, self.progress.total_step, metrics)
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
