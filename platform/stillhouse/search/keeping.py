"""Which models of a study stay on disk: those of its best finished trials."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stillhouse.search.record import Trial, front_of
from stillhouse.search.space import SearchSpace

RANKER = "ranker"
"""In a trial's checkpoint folder: the ranker that it ended with."""


def best_finished(trials: Sequence[Trial], space: SearchSpace, count: int) -> list[Trial]:
    """The best finished trials, best first; of two objectives the Pareto front comes first, the earlier of equals."""
    sign = 1 if space.modes[0] == "max" else -1
    finished = [trial for trial in trials if trial.state == "FINISHED" and trial.metric is not None]
    front = {trial.key for trial in front_of(finished, space)} if len(space.metrics) > 1 else set()
    ranked = sorted(finished, key=lambda trial: (trial.key not in front, -sign * (trial.metric or 0.0), trial.number))
    return ranked[:count]


def remove_others(trials: Sequence[Trial], space: SearchSpace, count: int, root: Path) -> None:
    """Delete checkpoints and rankers of the ended trials that are not among the best `count`.

    What a trial measured stays: its reports, its outcome, its file in the study. So it is never run again.
    """
    kept = {trial.key for trial in best_finished(trials, space, count)}
    for trial in trials:
        if trial.state != "RUNNING" and trial.key not in kept:
            shutil.rmtree(checkpoints_of(root, trial.key), ignore_errors=True)


def checkpoints_of(root: Path, key: str) -> Path:
    """Where a trial trains; with several seeds each has a folder of its own in it."""
    return root / "trials" / key / "checkpoints"


def ranker_of(root: Path, key: str) -> Path | None:
    """The ranker that a trial ended with, of its first seed; None where it is not kept."""
    folder = checkpoints_of(root, key)
    found = [place for place in (folder / RANKER, folder / "seed-0" / RANKER) if place.is_dir()]
    return found[0] if found else None
