"""What a study leaves on disk: its trials, complete or not at all, under keys made from what they depend on."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from stillhouse.artifacts import atomic_file, stable_hash, write_json
from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe
from stillhouse.recipe.identity import settled
from stillhouse.search.space import COSTS, Point, SearchSpace

NO_PART_OF_A_TRIAL = ("name", "output", "store", "search", "retrain", "baselines", "tracking")
"""Keys of a recipe that change nothing in what a trial measures."""

State = Literal["RUNNING", "FINISHED", "PRUNED", "FAILED"]


class Report(NamedTuple):
    """What one trial said after one dev evaluation."""

    step: int
    """Optimiser steps done, over all stages."""
    time: float
    """Unix seconds."""
    metrics: dict[str, float]


@dataclass
class Trial:
    """One point of the space and what became of it."""

    number: int
    """Its number in the Optuna study."""
    key: str
    """Its checkpoints lie in `<root>/trials/<key>/`."""
    values: Point
    """What was drawn."""
    state: State = "RUNNING"
    reports: list[Report] = field(default_factory=list)
    metrics: tuple[float, ...] | None = None
    """The space's measures at its best report: a stage ends with the weights of its best evaluation."""
    seconds: float = 0.0
    """Since it last started, as the driver saw it."""
    error: str | None = None
    """One line; also says why a trial was cut, where not by the scheduler."""
    run_id: str | None = None
    parent_run: str | None = None

    @property
    def metric(self) -> float | None:
        """The first of `metrics`."""
        return self.metrics[0] if self.metrics else None

    def best_report(self, space: SearchSpace) -> Report | None:
        """The report with the best first measure of those that evaluations have; the earliest of equals.

        Costs, which are measured once, count for every report.
        """
        costs = {name: value for report in self.reports for name, value in report.metrics.items() if name in COSTS}
        whole = [Report(report.step, report.time, costs | report.metrics) for report in self.reports]
        judged = [report for report in whole if all(name in report.metrics for name in space.metrics)]
        measured = [pair for pair in zip(space.metrics, space.modes, strict=True) if pair[0] not in COSTS]
        metric, mode = [*measured, (space.metrics[0], space.modes[0])][0]
        sign = 1 if mode == "max" else -1
        return max(judged, key=lambda report: sign * report.metrics[metric], default=None)


@dataclass(frozen=True)
class StudyResult:
    """A study that has ended."""

    best: Trial
    trials: list[Trial]
    """In the order they were drawn."""
    seconds: float
    """Wall time over all sessions; 0 more when it was read from disk."""
    front: list[Trial] = field(default_factory=list)
    """Trials that no other beats in every measure; just the best for one objective."""
    name: str = ""
    """Its folder under `<root>/studies/`."""
    measures: tuple[str, ...] = ()
    """What a trial's `metrics` are, in order."""


def identity(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that a trial depends on, as plain data."""
    plain: dict[str, Any] = settled(recipe.model_dump(mode="json", exclude=set(NO_PART_OF_A_TRIAL)))
    return plain


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def trial_key(recipe: Recipe, drawn: Point, context: Mapping[str, str]) -> str:
    """Hash of the drawn values, the seed and the recipe, in their order; `context` names data besides the recipe."""
    return stable_hash([json.dumps(drawn), recipe.seed, json.dumps(identity(recipe)), dict(context)])


def study_id(recipe: Recipe, space: SearchSpace, context: Mapping[str, str]) -> str:
    """Hash of recipe and space. The budget is left out: a study with more trials goes on with those it has."""
    drawn_from = space.model_dump(mode="json", by_alias=True, exclude={"trials", "time_budget_s", "start", "recipes"})
    return stable_hash([json.dumps(identity(recipe)), json.dumps(drawn_from), dict(context)])


class StudyFolder:
    """`<root>/studies/<id>/`: `study.json`, `optuna.db`, and `trials/<key>.json` for each ended trial."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.path = root / "studies" / name

    def trials(self) -> list[Trial]:
        """The ended trials, by number."""
        found = [json.loads(path.read_text()) for path in (self.path / "trials").glob("*.json")]
        return sorted((_trial(one) for one in found), key=lambda trial: trial.number)

    def write_trial(self, trial: Trial) -> None:
        """Keep an ended trial; from here on it is never run again."""
        tree = dataclasses.asdict(trial) | {"reports": [report._asdict() for report in trial.reports]}
        with atomic_file(self.path / "trials" / f"{trial.key}.json") as temporary:
            # Keys stay in order: a choice of whole stages means their order.
            temporary.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n")

    def facts(self) -> dict[str, Any]:
        """`seconds` spent, and `reason` once the study has ended: `trials`, `time budget` or `space exhausted`."""
        path = self.path / "study.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace the facts."""
        write_json(self.path / "study.json", dict(facts))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held by one driver; given back by the system when it dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SearchError(f"study {self.name} is running in another process; wait for it, or stop it") from None
            yield


def _trial(tree: dict[str, Any]) -> Trial:
    tree["reports"] = [Report(**report) for report in tree["reports"]]
    tree["metrics"] = tuple(tree["metrics"]) if tree["metrics"] is not None else None
    return Trial(**tree)


def best_of(trials: Sequence[Trial], space: SearchSpace) -> Trial:
    """The best finished trial; where time ran out before one finished, the best of those cut.

    Raises SearchError with the first trial's error if none was measured.
    """
    for state in ("FINISHED", "PRUNED"):
        judged = [trial for trial in trials if trial.state == state and trial.metric is not None]
        if judged:
            sign = 1 if space.modes[0] == "max" else -1
            return max(judged, key=lambda trial: sign * (trial.metric or 0.0))
    if not trials:
        within = f" within the time budget of {space.time_budget_s:g} s" if space.time_budget_s else ""
        raise SearchError(f"no trial ended{within}; raise trials or time_budget_s and go on with --resume")
    first = next((trial.error for trial in trials if trial.error), "nothing")
    raise SearchError(f"all {len(trials)} trials failed; the first said: {first}")


def front_of(trials: Sequence[Trial], space: SearchSpace) -> list[Trial]:
    """The Pareto front of the finished trials, best first measure first."""
    signs = [1 if mode == "max" else -1 for mode in space.modes]
    points = [
        ([sign * value for sign, value in zip(signs, trial.metrics, strict=True)], trial)
        for trial in trials
        if trial.state == "FINISHED" and trial.metrics is not None
    ]

    def beaten(one: list[float]) -> bool:
        return any(all(b >= a for a, b in zip(one, other, strict=True)) and other != one for other, _ in points)

    return [trial for point, trial in sorted(points, key=lambda pair: pair[0], reverse=True) if not beaten(point)]
