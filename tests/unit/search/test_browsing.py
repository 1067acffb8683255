"""What MLflow's pages are told about a search, against the same things written by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stillhouse.recipe.load import shipped_files
from stillhouse.search import load_space, make_space
from stillhouse.search.browsing import best_points, drawn_params, search_note, trial_note, view_of
from stillhouse.search.record import Report, Trial
from stillhouse.tracking.views import MAX_TAG, TAG, newest_view, tag_of

SPACES = [path.stem for path in shipped_files("search_spaces")]
KEY = "stages.distill.loss.temperature"
SPACE = make_space({"space": {KEY: {"float": [0.5, 8.0]}, "seed": {"choice": [1, 2]}}})


def trial(number: int, *values: float, state: Any = "FINISHED", error: str | None = None) -> Trial:
    reports = [
        Report(40 * (at + 1), 1000.0 + at, {"nDCG@10": value, "train/loss": 1.0}) for at, value in enumerate(values)
    ]
    best = max(values, default=None)
    metrics = (best,) if best is not None else None
    return Trial(
        number, f"key{number}", {KEY: 0.123456 * (number + 1), "seed": 1}, state, reports, metrics, error=error
    )


@pytest.mark.parametrize("name", SPACES)
def test_every_shipped_space_has_a_view_that_mlflow_takes(name: str) -> None:
    space = load_space(name)
    key, value = tag_of(view_of("0123456789abcdef", "demo", space, 1.5))
    assert key == "mlflow.sharedViewState.0123456789abcdef"
    assert len(value) <= MAX_TAG
    content = json.loads(value)
    assert (content["name"], content["createdAt"]) == ("Search demo (01234567)", 1500)
    state = json.loads(content["state"])
    assert state["searchFilter"] == "tags.`stillhouse.study` = '0123456789abcdef'"
    assert state["orderByAsc"] is (space.modes[0] == "min")
    charts, (section,) = state["compareRunCharts"], state["compareRunSections"]
    assert (charts[0]["type"], charts[0]["selectedParams"]) == ("PARALLEL", drawn_params(space))
    columns = state["columnOrder"][len(space.metrics) + 1 :]
    assert columns == [f"params.`{name}`" for name in drawn_params(space)]
    assert {chart["metricSectionId"] for chart in charts} == {section["uuid"]}


def test_a_choice_among_mappings_is_shown_by_their_keys() -> None:
    losses = [{"name": "kl", "temperature": 2.0}, {"name": "margin_mse"}]
    space = make_space({"space": {"stages.distill.loss": {"choice": losses}, "seed": {"choice": [1, 2]}}})
    assert drawn_params(space) == ["stages.distill.loss.name", "stages.distill.loss.temperature", "seed"]


def test_the_view_sorts_by_the_first_measure_in_its_direction() -> None:
    two = {"metric": ["latency_ms", "nDCG@10"], "mode": ["min", "max"], "scheduler": "none"}
    _, value = tag_of(view_of("a", "demo", make_space({"space": {"seed": {"choice": [1, 2]}}, **two}), 0.0))
    state = json.loads(json.loads(value)["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/latency_ms`", True)
    assert state["selectedColumns"][:2] == ["metrics.`best/latency_ms`", "metrics.`best/nDCG_at_10`"]


def test_the_newest_view_is_found_among_other_tags() -> None:
    older, newer = (tag_of(view_of(key, "demo", SPACE, time)) for key, time in (("b", 10.0), ("a", 20.0)))
    tags = dict([older, newer, ("mlflow.note.content", "x"), (f"{TAG}link", "deflate;eJy"), (f"{TAG}other", "[]")])
    assert newest_view(tags) == (20.0, "a", "Search demo (a)")
    assert newest_view({"mlflow.note.content": "x"}) is None


def test_a_trial_is_judged_by_its_best_report() -> None:
    one = trial(3, 0.2, 0.4, 0.3)
    assert best_points(one, SPACE) == [("best/nDCG@10", 0.4, 80, 1001.0)]
    note = trial_note(one, "0123", SPACE)
    assert "Trial 3 of search `0123`: finished." in note
    assert "nDCG@10 on dev **0.4000**, at step 80 (the best of 3 evaluations)." in note
    assert f"| `{KEY}` | `0.494` |" in note
    assert "#/experiments/{experiment}/runs?" in note


def test_a_trial_that_failed_says_why() -> None:
    one = trial(0, state="FAILED", error="the loss is not finite")
    assert best_points(one, SPACE) == []
    assert "`the loss is not finite`" in trial_note(one, "0123", SPACE)


def test_the_search_lists_its_best_trials_first() -> None:
    trials = [trial(0, 0.1), trial(1, 0.5, 0.3), trial(2, 0.3, state="PRUNED"), trial(3, state="FAILED", error="no")]
    lines = search_note("0123", SPACE, trials).splitlines()
    assert lines[0].startswith("Search `0123`: 4 trials (2 finished, 1 pruned, 1 failed). All trials of this search: [")
    assert lines[2] == "The best 3:"
    assert lines[4:9] == [
        "| trial | nDCG@10 on dev | state | `temperature` | `seed` |",
        "| --- | --- | --- | --- | --- |",
        "| 001 | 0.5000 | finished | `0.247` | `1` |",
        "| 002 | 0.3000 | pruned | `0.37` | `1` |",
        "| 000 | 0.1000 | finished | `0.123` | `1` |",
    ]
