"""Ray's OptunaSearch, told the truth: stopped trials are PRUNED with their curve, and none is run twice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.result import AUTO_RESULT_KEYS, TRAINING_ITERATION
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from stillhouse.recipe import Recipe
from stillhouse.search.record import Report, Trial, trial_key
from stillhouse.search.recorder import Recorder
from stillhouse.search.sampling import ask, decode, make_sampler
from stillhouse.search.space import SearchSpace
from stillhouse.search.spool import REPORTS, append_report, read_outcome, read_reports, trial_folder

STATES = {"FINISHED": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}
NO_METRICS = {"step", TRAINING_ITERATION, *AUTO_RESULT_KEYS}
"""Numbers that Tune adds to a result."""
MAX_REDRAWS = 30


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """Draws trials from a stored Optuna study and records what becomes of them.

    OptunaSearch alone tells a stopped trial COMPLETE with the value of its last rung, and starts a study's
    running trials anew after a kill. Here the trial's file is the truth, and Optuna is brought up to it.
    """

    def __init__(
        self,
        space: SearchSpace,
        recipe: Recipe,
        recorder: Recorder,
        storage: optuna.storages.BaseStorage,
        root: Path,
        *,
        context: Mapping[str, str],
        deadline: float | None,
    ) -> None:
        metrics = list(space.metrics)
        single = len(metrics) == 1
        super().__init__(
            space=lambda trial: None,  # never called: `suggest` draws by itself
            metric=metrics[0] if single else metrics,
            mode=space.modes[0] if single else list(space.modes),
            sampler=make_sampler(space, 0),
            study_name=recorder.folder.name,
            storage=storage,
        )
        self.search_space, self.recipe, self.recorder, self.root = space, recipe, recorder, root
        self.context, self.deadline = context, deadline
        self.exhausted = False
        self.running: dict[str, Trial] = {}
        self.ended = {trial.key: trial for trial in recorder.folder.trials()}
        self.reopened = self._catch_up()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial: first those that a kill left running, then new ones, until the budget is spent."""
        trial = self.reopened.pop(0) if self.reopened else self._draw()
        if trial is None:
            return str(Searcher.FINISHED)
        self.running[trial_id] = trial
        self.recorder.start(trial)
        # A trial that a kill left running has a curve already; points that are recorded stand once.
        self.recorder.report(trial, read_reports(trial_folder(self.root, trial.key) / REPORTS))
        return {"trial": {"number": trial.number, "key": trial.key, "values": trial.values}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep the reports of a rung."""
        trial = self.running.get(trial_id)
        if trial is not None:
            self._take(trial, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial: its own outcome counts; without one it was stopped, or its process died."""
        trial = self.running.pop(trial_id, None)
        if trial is None:
            return
        self._take(trial, result or {})
        outcome = read_outcome(self.root, trial.key)
        if outcome:
            trial.state, trial.error = outcome["state"], outcome.get("error")
        elif error:
            trial.state, trial.error = "FAILED", "its process died again and again; was it out of memory?"
        else:
            trial.state = "PRUNED"
            trial.error = "time budget" if self.deadline and time.monotonic() >= self.deadline else None
        self.recorder.end(trial)
        self.ended[trial.key] = trial
        self._tell(trial)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the storage and the trials' files hold all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune pickles its arguments for a restore of its own, which is never used: nothing is kept."""
        return (Searcher, ())

    def _draw(self) -> Trial | None:
        for _ in range(MAX_REDRAWS):
            if len(self.ended) + len(self.running) >= self.search_space.trials:
                return None
            if self.search_space.sampler.name == "grid" and not self._waiting():
                break
            asked, drawn = ask(self.study, self.search_space, self.recipe)
            # Two searches that draw the same values must not train in one folder: each stops and clears its own.
            key = trial_key(self.recipe, drawn, {**self.context, "study": self.recorder.folder.name})
            twin = self.ended.get(key) or next((one for one in self.running.values() if one.key == key), None)
            if twin is None:
                asked.set_user_attr("key", key)
                return Trial(asked.number, key, drawn)
            asked.set_user_attr("twin_of", twin.number)
            self.study.tell(asked, state=TrialState.FAIL)
        self.exhausted = True
        return None

    def _waiting(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _take(self, trial: Trial, result: Mapping[str, Any]) -> None:
        if "reports" in result:
            self.recorder.report(trial, [Report(**report) for report in result["reports"]])
        elif "step" in result:
            self._take_nested(trial, result)
        self._report(trial)

    def _take_nested(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """A report of Ray Train's workers, which Tune passes on as it is: spooled here, where it is first seen."""
        step = int(result["step"])
        if all(report.step != step for report in trial.reports):
            report = Report(step, time.time(), nested_metrics(result))
            append_report(trial_folder(self.root, trial.key) / REPORTS, report)
            self.recorder.report(trial, [report])

    def _report(self, trial: Trial) -> None:
        """Bring Optuna's curve up to the trial's; its step is the number of the evaluation, from 1."""
        if len(self.search_space.metrics) > 1:
            return
        metric = self.search_space.metrics[0]
        values = [report.metrics[metric] for report in trial.reports if metric in report.metrics]
        stored = self.study.get_trials(deepcopy=False)[trial.number]
        handle = optuna.Trial(self.study, stored._trial_id)
        for number, value in enumerate(values, start=1):
            if number not in stored.intermediate_values:
                handle.report(value, number)

    def _tell(self, trial: Trial) -> None:
        self._report(trial)
        metrics = trial.metrics if trial.state == "FINISHED" else None
        if trial.state == "PRUNED" and trial.metric is not None:
            stored = self.study.get_trials(deepcopy=False)[trial.number]
            optuna.Trial(self.study, stored._trial_id).set_user_attr("best", trial.metric)
        self.study.tell(trial.number, list(metrics) if metrics else None, state=STATES[trial.state])

    def _catch_up(self) -> list[Trial]:
        """Tell Optuna what ended without it, and give back the trials that were running."""
        reopened = []
        by_number = {trial.number: trial for trial in self.ended.values()}
        for stored in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            ended = by_number.get(stored.number)
            if ended is not None:
                self._tell(ended)
            elif "key" in stored.user_attrs:
                dimensions = self.search_space.space
                drawn = {key: decode(dimensions[key], stored.params[key]) for key in dimensions if key in stored.params}
                reopened.append(Trial(stored.number, stored.user_attrs["key"], drawn))
            else:  # killed between being asked for and being named
                self.study.tell(stored.number, state=TrialState.FAIL)
        return reopened


def nested_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result that the trial's workers reported, without those that Tune adds."""
    return {
        name: float(value)
        for name, value in result.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and name not in NO_METRICS
        and not name.startswith("config/")
    }
