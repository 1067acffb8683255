from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from stillhouse.errors import SearchError
from stillhouse.search import make_space
from stillhouse.search.beginning import learn_from
from stillhouse.search.record import Report, StudyFolder, Trial

TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"


def earlier(root: Path) -> None:
    folder = StudyFolder(root, "earlier")
    states = ["FINISHED", "PRUNED", "FINISHED", "FINISHED"]
    temperatures = [2.0, 3.0, 9.0, 4.0]  # 9 cannot be drawn from the space below
    for number, (state, temperature) in enumerate(zip(states, temperatures, strict=True)):
        values = {TEMPERATURE: temperature, NEGATIVES: 3}
        reports = [Report(1, 0.0, {"nDCG@10": number / 10}), Report(2, 0.0, {"nDCG@10": number / 20})]
        folder.write_trial(Trial(number, f"key{number}", values, state, reports, (number / 10,)))  # type: ignore[arg-type]


def space(**changes: object):
    drawn = {TEMPERATURE: {"float": [0.5, 8.0], "log": True}, NEGATIVES: {"choice": [1, 3]}}
    return make_space({"space": drawn, "warm_start": "earlier", **changes})


def test_finished_trials_that_fit_are_learnt_once(tmp_path: Path) -> None:
    earlier(tmp_path)
    study = optuna.create_study(direction="maximize")
    for _ in range(2):
        learn_from(study, space(), tmp_path)
    learnt = [(trial.state, trial.params[TEMPERATURE], trial.value) for trial in study.trials]
    assert learnt == [(TrialState.COMPLETE, 2.0, 0.0), (TrialState.COMPLETE, 4.0, 0.3)]


@pytest.mark.parametrize("changes", [{"warm_start": "nowhere"}, {"metric": "RR@10"}])
def test_nothing_to_learn_is_one_line(tmp_path: Path, changes: dict[str, str]) -> None:
    earlier(tmp_path)
    with pytest.raises(SearchError, match=r"no finished trial there has .*studies under .*: earlier"):
        learn_from(optuna.create_study(direction="maximize"), space(**changes), tmp_path)
