"""Checkpoints of a training: complete or not there, readable by another number of ranks."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from stillhouse.artifacts import write_json
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.training import ranks

_MARK = "progress.json"
logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)


@dataclass
class Progress:
    """Where a training stands: `step` steps of stage number `stage` are done."""

    stage: int = 0
    step: int = 0
    total_step: int = 0
    best_value: float | None = None
    best_step: int = 0
    since_best: int = 0
    """Evaluations in a row that were not the best."""
    since_reduced: int = 0
    """As `since_best`, but from the last reduction of the learning rate on."""
    plateau: float = 1.0
    """Product of the reductions of the learning rate so far."""
    stopped: bool = False
    """The stage was ended early."""
    queries_per_forward: int | None = None

    def record(self, value: float, stage: StageSpec) -> bool:
        """Count a dev evaluation: what it does to the learning rate and the stage's end; True for the best so far."""
        if self.best_value is None or value > self.best_value:
            self.best_value, self.best_step = value, self.step
            self.since_best = self.since_reduced = 0
            return True
        self.since_best += 1
        self.since_reduced += 1
        if stage.optimizer.schedule == "plateau" and self.since_reduced >= stage.optimizer.plateau_patience:
            self.plateau *= stage.optimizer.plateau_factor
            self.since_reduced = 0
        self.stopped = stage.early_stopping is not None and self.since_best >= stage.early_stopping
        return False


Weights = dict[str, Any]


def copy_weights(ranker: Ranker) -> Weights:
    """This rank's part of the trained weights, copied."""
    trained = {name for name, parameter in ranker.named_parameters() if parameter.requires_grad}
    state: Weights = dict(get_model_state_dict(ranker))
    return {name: value.detach().clone() for name, value in state.items() if name in trained}


def restore_weights(ranker: Ranker, weights: Weights) -> None:
    state = get_model_state_dict(ranker)
    set_model_state_dict(ranker, state | weights)


def save(folder: Path, ranker: Ranker, optimizer: torch.optim.Optimizer, best: Weights, progress: Progress) -> None:
    """Write a checkpoint of all ranks, then delete the older ones."""
    target = folder / f"step-{progress.total_step:08d}"
    temporary = folder / f".{target.name}.tmp"
    if ranks.rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    ranks.barrier()
    state = {"model": copy_weights(ranker), "optimizer": get_optimizer_state_dict(ranker, optimizer), "best": best}
    state_dict_saver.save(state, checkpoint_id=temporary, no_dist=ranks.world_size() == 1)
    ranks.barrier()
    if ranks.rank() == 0:
        write_json(temporary / _MARK, asdict(progress))
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
        for older in _complete(folder):
            if older != target:
                shutil.rmtree(older, ignore_errors=True)
    ranks.barrier()


def newest(folder: Path) -> tuple[Path, Progress] | None:
    """The newest complete checkpoint of a training, if there is one."""
    found = _complete(folder)
    if not found:
        return None
    return found[-1], Progress(**json.loads((found[-1] / _MARK).read_text()))


def load(path: Path, ranker: Ranker, optimizer: torch.optim.Optimizer, evaluated: bool = True) -> Weights:
    """Put a checkpoint into ranker and optimiser; returns the best weights so far.

    `evaluated`: whether it was written after a dev evaluation of its stage; before the first there is no best.
    """
    state = {
        "model": copy_weights(ranker),
        "optimizer": get_optimizer_state_dict(ranker, optimizer),
        "best": copy_weights(ranker) if evaluated else {},
    }
    state_dict_loader.load(state, checkpoint_id=path, no_dist=ranks.world_size() == 1)
    restore_weights(ranker, state["model"])
    set_optimizer_state_dict(ranker, optimizer, optim_state_dict=state["optimizer"])
    return dict(state["best"])


def _complete(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"step-*/{_MARK}"))
