"""The evaluations of a training: measures on dev and on a sample of train queries, and the scores that are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from stillhouse.errors import TrainingError
from stillhouse.evaluation.measures import PerQuery
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.records import Run
from stillhouse.training import dev, evaluations, memory, ranks
from stillhouse.training.job import TrainingData, TrainingJob


@dataclass
class Measurer:
    """Measures the ranker as it is; every rank makes the same calls."""

    job: TrainingJob
    data: TrainingData
    ranker: Ranker
    module: nn.Module
    device: torch.device
    checkpoint_folder: Path
    autocast: Callable[[], AbstractContextManager[None]]
    sharded: bool
    size: int = dev.QUERIES_PER_FORWARD
    values: PerQuery = field(default_factory=dict)
    """What the last evaluation found on dev, query by query."""

    def measure(self, step: int, name: str, stage: StageSpec, forward_size: int) -> dict[str, float]:
        """Measures on dev by their names, and as `train/<name>` on a sample of train queries if the recipe asks.

        `forward_size`: queries in a forward of the training, halved where a sharded rank has to start again.
        """
        spec, part = self.job.evaluation_spec, dev.dev_part(self.data)
        run = self._run(part, name, stage, forward_size)
        self.values = dev.part_values(run, self.data, part, spec)
        measures = dev.means(self.values)
        if spec.train_queries is not None:
            part = self._train_part
            of_train = self._run(part, name, stage, forward_size)
            found = dev.means(dev.part_values(of_train, self.data, part, spec))
            measures |= {f"train/{measure}": value for measure, value in found.items()}
        if ranks.rank() == 0 and spec.score_queries is not None:
            self._keep(step, run, self._sample)
        return measures

    def keep_values(self, step: int) -> None:
        """Keep the measures of each dev query: the weights of this evaluation are those that the stage ends with."""
        if ranks.rank() == 0:
            evaluations.write_values(self.checkpoint_folder, step, self.values)

    def keep_first_scores(self, step: int, name: str, stage: StageSpec, forward_size: int) -> None:
        """Before the first step of all: the scores of the sample, if the recipe asks for any."""
        if self.job.evaluation_spec.score_queries is not None and step == 0:
            run = self._run(self._sample, name, stage, forward_size)
            if ranks.rank() == 0:
                self._keep(step, run, self._sample)

    @cached_property
    def _train_part(self) -> dev.Part:
        """The train queries that are measured: a hash of each id and a sort, so made once."""
        return dev.train_part(self.data, self.job.evaluation_spec.train_queries or 0, self.job.seed)

    @cached_property
    def _sample(self) -> dev.Part:
        """The dev queries whose scores are kept."""
        count = self.job.evaluation_spec.score_queries or 0
        return dev.sample(dev.dev_part(self.data), self.data, count, self.job.seed)

    def _keep(self, step: int, run: Run, part: dev.Part) -> None:
        ids = self.data.collection.splits[part.split].queries.ids
        evaluations.write_scores(self.checkpoint_folder, step, run, [ids[row] for row in part.query_rows])

    def _run(self, part: dev.Part, name: str, stage: StageSpec, forward_size: int) -> Run:
        """Candidates re-ranked by all ranks; half the queries in a forward where one runs out of memory."""
        spec, guard = self.job.evaluation_spec, memory.Guard()
        while True:
            scored: dev.Scored = []
            with guard, self.autocast():
                if self.ranker.separable and not self.sharded:
                    scored = dev.documents_once(self.ranker, self.data, part, spec, self.size)
                else:
                    scored = dev.equal_forwards(self.ranker, self.module, self.data, part, spec, self.device, self.size)
            if guard.failed and self.sharded:
                memory.start_again(self.checkpoint_folder, name, stage, forward_size)
            if not ranks.on_any(guard.failed):
                return dev.part_run(scored, self.data, part, spec)
            memory.release()
            if self.size == 1:
                raise TrainingError(memory.too_small(name, stage))
            self.size //= 2
