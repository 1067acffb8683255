from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.errors import SearchError, TrainingError
from stillhouse.recipe import Recipe, make_recipe
from stillhouse.search.spool import read_reports
from stillhouse.search.trial import ReportCall, Reports, _means


def sent_steps(sent: list[dict[str, Any]]) -> list[list[int]]:
    return [[report["step"] for report in one["reports"]] for one in sent]


def test_reports_without_the_measure_wait_for_the_next(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    reports = Reports(tmp_path / "r.jsonl", ["nDCG@10"], sent.append)
    reports.add({"train/loss": 2.0}, 1)
    reports.add({"nDCG@10": 0.5, "train/loss": 1.0}, 2)
    reports.add({"train/loss": 0.5}, 3)
    assert sent_steps(sent) == [[1, 2]]
    assert sent[0]["nDCG@10"] == 0.5
    assert [report.step for report in read_reports(tmp_path / "r.jsonl")] == [1, 2, 3]


def test_a_restart_says_again_what_it_does_not_measure_again(tmp_path: Path) -> None:
    before: list[dict[str, Any]] = []
    first = Reports(tmp_path / "r.jsonl", ["m"], before.append)
    for step in (10, 20, 30):
        first.add({"m": step / 100}, step)
    with (tmp_path / "r.jsonl").open("a") as stream:
        stream.write('{"step": 40, "ti')  # torn by a kill

    after: list[dict[str, Any]] = []
    second = Reports(tmp_path / "r.jsonl", ["m"], after.append)
    second.add({"m": 0.99}, 20)  # the newest checkpoint was that of step 10
    second.add({"m": 0.3}, 30)
    second.add({"m": 0.4}, 40)
    assert sent_steps(after) == [[10], [20], [30], [40]]
    assert after[:3] == before  # also the times, so that a curve gets no point twice
    assert [report.step for report in read_reports(tmp_path / "r.jsonl")] == [10, 20, 30, 40]


def test_an_objective_that_has_nothing_left_to_do_repeats_its_reports(tmp_path: Path) -> None:
    Reports(tmp_path / "r.jsonl", ["m"], lambda _: None).add({"m": 0.1}, 1)
    sent: list[dict[str, Any]] = []
    Reports(tmp_path / "r.jsonl", ["m"], sent.append).finish()
    assert sent_steps(sent) == [[1]]


def test_steps_must_grow(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "r.jsonl", ["m"], lambda _: None)
    reports.add({"m": 0.1}, 5)
    with pytest.raises(SearchError, match="report at step 5 after step 5"):
        reports.add({"m": 0.1}, 5)


def test_no_number_is_no_measure(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "r.jsonl", ["m"], lambda _: None)
    with pytest.raises(TrainingError, match="m is nan at step 1"):
        reports.add({"m": float("nan")}, 1)
    assert read_reports(tmp_path / "r.jsonl") == []


def test_seeds_are_averaged_evaluation_by_evaluation(tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "name": "toy",
            "output": {"path": "unused"},
            "collection": {"train": "none", "dev": "none", "test": "none"},
            "teachers": {"file": {"scores": "none"}},
            "student": {"ranker": "dual_encoder", "backbone": "none"},
            "stages": {"distill": {"loss": {"name": "kl"}}},
        }
    )
    folders = []

    def objective(recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: ReportCall) -> None:
        folders.append(checkpoint_dir)
        for step in (10, 20):
            report({"m": step * (recipe.seed + 1.0), "train/loss": 1.0}, step)

    means = _means(objective, recipe, "key", tmp_path, ["m"], 3)
    # seeds 0, 1, 2: 10, 20, 30 at step 10, twice that at step 20; deviations -10, 0, 10: sample variance 100
    assert [(report.step, report.metrics) for report in means] == [
        (10, {"m": 20.0, "train/loss": 1.0, "spread/m": 10.0}),
        (20, {"m": 40.0, "train/loss": 1.0, "spread/m": 20.0}),
    ]
    assert len(set(folders)) == 3
