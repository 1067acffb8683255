"""One trial, in Tune's actor: the objective runs, its reports are spooled beside its checkpoints and sent on."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Protocol

from ray import tune

from stillhouse.artifacts import write_json
from stillhouse.errors import SearchError, TrainingError
from stillhouse.recipe import Recipe, override
from stillhouse.search.record import Report
from stillhouse.search.space import COSTS
from stillhouse.search.spool import OUTCOME, REPORTS, append_report, read_reports, trial_folder, write_reports

ReportCall = Callable[[dict[str, float], int], None]


class Objective(Protocol):
    """Trains one student and reports each dev evaluation; goes on from the newest checkpoint it finds."""

    def __call__(self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: ReportCall) -> None:
        """`report(metrics, step)`: steps grow over all stages. It does not return when the trial is stopped.

        An objective that trains in other processes may let those report to Tune instead, with `step` among the metrics.
        """


def run_trial(
    config: dict[str, Any], *, objective: Objective, recipe: Recipe, metrics: Sequence[str], seeds: int, root: Path
) -> None:
    """Tune's function trainable. `outcome.json` says how the objective ended; a stopped trial leaves none."""
    key, values = config["trial"]["key"], config["trial"]["values"]
    folder = trial_folder(root, key)
    outcome = folder / OUTCOME
    outcome.unlink(missing_ok=True)
    try:
        reports = Reports(folder / REPORTS, metrics, tune.report)
        if seeds == 1:
            objective(override(recipe, values), key, folder / "checkpoints", reports.add)
        else:
            for report in _means(objective, override(recipe, values), key, folder, metrics, seeds):
                reports.add(report.metrics, report.step)
        reports.finish()
        write_json(outcome, {"state": "FINISHED"})
    except Exception as error:  # a failing trial is an outcome, not the end of the study
        (folder / "error.txt").write_text(traceback.format_exc())
        line = (str(error).strip().splitlines() or [""])[0]
        write_json(outcome, {"state": "FAILED", "error": f"{type(error).__name__}: {line}"})


def _means(
    objective: Objective, recipe: Recipe, key: str, folder: Path, metrics: Sequence[str], seeds: int
) -> list[Report]:
    """Train with each seed in turn; the mean of every metric at every evaluation, and the spread of the measures."""
    curves: list[list[Report]] = []
    for number in range(seeds):
        curve: list[Report] = []
        reports = Reports(
            folder / f"seed-{number}.jsonl",
            metrics,
            lambda sent, curve=curve: curve.append(Report(**sent["reports"][-1])),  # type: ignore[misc]
        )
        seeded = override(recipe, {"seed": recipe.seed + number})
        objective(seeded, f"{key}-{number}", folder / "checkpoints" / f"seed-{number}", reports.add)
        reports.finish()
        curves.append(curve)
    return [_mean(evaluation, metrics) for evaluation in zip(*curves, strict=True)]


def _mean(reports: Sequence[Report], metrics: Sequence[str]) -> Report:
    """The mean of one evaluation over seeds; `spread/<measure>` is the standard deviation of a sample."""
    shared = [name for name in reports[0].metrics if all(name in report.metrics for report in reports)]
    values = {name: [report.metrics[name] for report in reports] for name in shared}
    spread = {f"spread/{name}": stdev(values[name]) for name in metrics if name in values}
    return Report(reports[0].step, reports[-1].time, {name: fmean(values[name]) for name in shared} | spread)


class Reports:
    """Reports of one trial, on disk before they are sent.

    Tune counts evaluations, so a trial that goes on from a checkpoint first says again what was measured before
    it: the scheduler sees the same count as without the restart. A step that is measured again keeps its first
    report, so that no curve gets a point twice.
    """

    def __init__(self, path: Path, metrics: Sequence[str], send: Callable[[dict[str, Any]], None]) -> None:
        self.path = path
        self.metrics = metrics
        self.send = send
        self.earlier = read_reports(path)
        write_reports(path, self.earlier)
        self.waiting: list[Report] = []
        self.last_step = -1

    def add(self, metrics: dict[str, float], step: int) -> None:
        """Spool and send one report; those without the measures of the space wait for the next that has them.

        Costs come with the last report only; nothing waits for them.
        """
        if step <= self.last_step:
            raise SearchError(f"report at step {step} after step {self.last_step}: steps must grow over all stages")
        for name in self.metrics:
            if not math.isfinite(metrics.get(name, 0.0)):
                raise TrainingError(f"{name} is {metrics[name]} at step {step}")
        self._repeat(before=step)
        if self.earlier and self.earlier[0].step == step:
            self._send(self.earlier.pop(0))
            return
        report = Report(step, time.time(), {name: float(value) for name, value in metrics.items()})
        append_report(self.path, report)
        self._send(report)

    def finish(self) -> None:
        """Repeat what is left when the objective found its work done already."""
        self._repeat(before=None)

    def _repeat(self, before: int | None) -> None:
        while self.earlier and (before is None or self.earlier[0].step < before):
            self._send(self.earlier.pop(0))

    def _send(self, report: Report) -> None:
        self.last_step = report.step
        self.waiting.append(report)
        needed = [name for name in self.metrics if name not in COSTS]
        if all(name in report.metrics for name in needed):
            reports, self.waiting = [one._asdict() for one in self.waiting], []
            sent = {name: report.metrics[name] for name in self.metrics if name in report.metrics}
            self.send(sent | {"reports": reports})
