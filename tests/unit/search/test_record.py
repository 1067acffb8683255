from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.errors import SearchError
from stillhouse.recipe import override
from stillhouse.search import make_space
from stillhouse.search.record import Report, StudyFolder, Trial, best_of, front_of, study_id, trial_key
from stillhouse.search.study import is_finished
from tests.contracts.search_recipe import search_recipe

SPACE = make_space({"space": {"stages.distill.loss.temperature": {"float": [1, 2]}}, "trials": 4})
TWO = make_space(
    {
        "space": {"stages.distill.loss.temperature": {"float": [1, 2]}},
        "metric": ["nDCG@10", "latency_ms"],
        "mode": ["max", "min"],
        "scheduler": "none",
    }
)


def trial(number: int, *metrics: float, state: str = "FINISHED", error: str | None = None) -> Trial:
    return Trial(number, f"key{number}", {}, state=state, metrics=metrics or None, error=error)  # type: ignore[arg-type]


def test_best_is_a_finished_trial_even_if_one_that_was_cut_looked_better() -> None:
    assert best_of([trial(0, 0.3), trial(1, 0.9, state="PRUNED"), trial(2, 0.4)], SPACE).number == 2
    lowest = SPACE.model_copy(update={"mode": "min"})
    assert best_of([trial(0, 0.3), trial(2, 0.4)], lowest).number == 0
    assert best_of([trial(0, 0.3, state="PRUNED"), trial(1, state="FAILED", error="no")], SPACE).number == 0


def test_a_measure_of_zero_is_a_measure() -> None:
    assert best_of([trial(0, -1.0), trial(1, 0.0)], SPACE).number == 1


def test_all_failed_says_the_first_error() -> None:
    failed = [trial(0, state="FAILED", error="out of memory"), trial(1, state="FAILED", error="later")]
    with pytest.raises(SearchError, match="all 2 trials failed; the first said: out of memory"):
        best_of(failed, SPACE)


def test_front_is_what_no_other_beats_in_both() -> None:
    trials = [trial(0, 0.5, 10), trial(1, 0.4, 5), trial(2, 0.4, 6), trial(3, 0.3, 5), trial(4, 0.6, 20)]
    # 2 is beaten by 1 (faster), 3 by 1 (better)
    assert [one.number for one in front_of(trials, TWO)] == [4, 0, 1]
    assert [one.number for one in front_of([trial(0, 0.5), trial(1, 0.7)], SPACE)] == [1]


def test_metrics_are_those_of_the_best_report() -> None:
    pair = TWO.model_copy(update={"metric": ("nDCG@10", "RR@10"), "mode": ("max", "max")})
    reports = [
        Report(1, 0.0, {"nDCG@10": 0.3, "RR@10": 0.9}),
        Report(2, 0.0, {"nDCG@10": 0.5, "RR@10": 0.4}),
        Report(3, 0.0, {"nDCG@10": 0.5, "RR@10": 0.8}),
        Report(4, 0.0, {"nDCG@10": 0.9}),
    ]
    one = Trial(0, "key", {}, reports=reports)
    assert one.best_report(pair) == reports[1]
    assert one.best_report(SPACE) == reports[3]


def test_costs_are_measured_once_and_count_for_the_best_report() -> None:
    reports = [Report(1, 0.0, {"nDCG@10": 0.5}), Report(2, 0.0, {"nDCG@10": 0.4, "latency_ms": 3.0})]
    one = Trial(0, "key", {}, reports=reports)
    assert one.best_report(TWO) == Report(1, 0.0, {"nDCG@10": 0.5, "latency_ms": 3.0})
    fastest = TWO.model_copy(update={"metric": ("latency_ms", "nDCG@10"), "mode": ("min", "max")})
    assert one.best_report(fastest) == Report(1, 0.0, {"nDCG@10": 0.5, "latency_ms": 3.0})
    assert Trial(0, "key", {}, reports=reports[:1]).best_report(TWO) is None


def test_folder_gives_back_what_it_was_given(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "study")
    one = Trial(1, "a", {"x": 0.1}, "PRUNED", [Report(5, 2.5, {"nDCG@10": 0.1})], (0.1,), 3.0, None, "run", "parent")
    other = Trial(0, "b", {"x": [1, {"y": None}]}, "FAILED", error="no")
    folder.write_trial(one)
    folder.write_trial(other)
    assert folder.trials() == [other, one]


def test_only_one_driver_at_a_time(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "study").locked():
        with pytest.raises(SearchError, match="running in another process"), StudyFolder(tmp_path, "study").locked():
            pass
        with StudyFolder(tmp_path, "other").locked():
            pass
    with StudyFolder(tmp_path, "study").locked():
        pass


def test_keys_depend_on_what_a_trial_measures_and_on_nothing_else() -> None:
    one, point = search_recipe(), {"stages.distill.loss.temperature": 2.0}
    key = trial_key(one, point, {"scores": "a"})
    assert trial_key(override(one, {"output.path": "elsewhere", "tracking.uri": "none"}), point, {"scores": "a"}) == key
    assert trial_key(one, point, {"scores": "b"}) != key
    assert trial_key(override(one, {"seed": 1}), point, {"scores": "a"}) != key
    assert trial_key(one, {"stages.distill.loss.temperature": 2.5}, {"scores": "a"}) != key


def test_a_larger_budget_is_the_same_study() -> None:
    larger = SPACE.model_copy(update={"trials": 40, "time_budget_s": 3.0})
    assert study_id(search_recipe(), larger, {}) == study_id(search_recipe(), SPACE, {})
    wider = make_space({"space": {"stages.distill.loss.temperature": {"float": [1, 3]}}, "trials": 4})
    assert study_id(search_recipe(), wider, {}) != study_id(search_recipe(), SPACE, {})


def test_when_a_study_has_ended() -> None:
    limited = SPACE.model_copy(update={"time_budget_s": 10.0})
    assert not is_finished(SPACE, {}, 3)
    assert is_finished(SPACE, {"seconds": 1.0}, 4)
    assert is_finished(SPACE, {"seconds": 1.0, "reason": "space exhausted"}, 2)
    assert is_finished(limited, {"seconds": 10.2}, 1)
    assert not is_finished(limited, {"seconds": 9.0}, 1)
