"""The report of a search says what was counted, and its pages let nothing in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from stillhouse.errors import SearchError
from stillhouse.recipe import override
from stillhouse.search.space import make_space
from stillhouse.study_report import StudyContent, build_content, write_page
from stillhouse.study_report.confirmation import from_plain
from stillhouse.study_report.cost import search_cost
from stillhouse.study_report.knobs import knobs_of
from tests.contracts.search_studies import (
    EVIL,
    NEGATIVES,
    RATE,
    TEMPERATURE,
    make_confirmation,
    make_search_recipe,
    make_study,
    make_trials,
)


@pytest.fixture(scope="module")
def content() -> StudyContent:
    return build_content(make_study())


def test_cost_is_what_was_run_and_what_was_not() -> None:
    cost = search_cost(make_trials(), 100.0, make_search_recipe())
    assert cost.states == {"FAILED": 1, "FINISHED": 15, "PRUNED": 4}
    # 15 x 20 s, 4 x 5 s and the 3 s of the one that failed
    assert cost.trial_seconds == 323.0
    # 15 x 4 evaluations of 10 steps and 4 x 1; each of the four would have had 3 more.
    assert (cost.evaluations, cost.evaluations_saved) == (64, 12)
    assert (cost.steps, cost.steps_saved) == (640, 120)
    uneven = make_trials()
    uneven[5].reports.pop()
    assert search_cost(uneven, 100.0, make_search_recipe()).steps_saved is None
    halved = override(make_search_recipe(), {"stages.distill.evaluations": 2})
    assert search_cost(make_trials(), 100.0, halved).evaluations_saved == 4


def test_summary_says_cost_best_gain_and_what_mattered(content: StudyContent) -> None:
    cost, best, gain, mattered = content.summary
    assert "20 trials (1 failed, 15 finished, 4 stopped early) took 5.4 min of trials in 100 s of wall time" in cost
    assert "saved 12 of 76 evaluations and 120 of 760 optimiser steps (16%)" in cost
    assert best.startswith("Best on dev: trial 13 with nDCG@10 0.5000: temperature 4, num_negatives 3, learning_rate")
    assert gain.startswith(
        "Gain on test: nDCG@10 0.5500 with the best values and 0.5000 with the recipe's own, +0.0500"
    )
    assert "mean of 3 seeds" in gain
    assert mattered.startswith("Mattered, most first: learning_rate")


def test_the_test_is_that_of_scipy() -> None:
    test = make_confirmation().comparison
    differences = [0.1] * 30 + [-0.1] * 10
    assert test.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    # mean 0.05 over a standard deviation of sqrt(40/39 * (0.01 - 0.0025))
    assert test.effect_size == pytest.approx(0.05 / math.sqrt(40 / 39 * 0.0075))


def test_every_key_has_a_sentence(content: StudyContent) -> None:
    by_name = {sentence.partition(":")[0]: sentence for sentence in content.knobs}
    assert list(by_name) == ["temperature", "num_negatives", "learning_rate"]
    assert "it mattered: " in by_name["learning_rate"]
    # The best quarter of nineteen: trial 13, and the first four of those with 0.45: 10, 11, 12, 14.
    first, last, best = (f"{10 ** (-5 + 2 * number / 19):.3g}" for number in (10, 14, 13))
    assert f"The best quarter lies at {first} to {last}; the best trial has {best}" in by_name["learning_rate"]
    assert "whether it mattered cannot be told" not in by_name["temperature"]
    # Finished trials with one negative: 6 and 9 with 0.3, 12, 15 and 18 with 0.45
    assert "0.3900 with 1 (5)" in by_name["num_negatives"]


def test_without_confirmation_it_says_how_to_confirm() -> None:
    study = make_study()
    found = build_content(type(study)(study.name, "x", study.space, study.recipe, study.trials[2:7], 5.0))
    assert "search.confirm_seeds: 3" in found.summary[2]
    assert found.summary[3] == "Which keys mattered cannot be told from so few trials."
    assert "whether it mattered cannot be told (there are 3 trials to go by, 6 are needed)" in found.knobs[0]
    assert found.confirmation is None
    with pytest.raises(SearchError, match="all 1 trials failed; the first said: TrainingError"):
        build_content(type(study)("abc", "x", study.space, study.recipe, study.trials[19:], 5.0))


def test_a_table_of_trials_has_the_best_first(content: StudyContent) -> None:
    assert content.trials.header[:5] == ["trial", "temperature", "num_negatives", "learning_rate", "nDCG@10"]
    assert content.trials.rows[0][:2] == ["13", "4"]
    assert content.trials.rows[-1][0] == "19"
    assert content.trials.rows[-1][4] == "-"
    assert len(content.trials.rows) == 20


def test_names_are_as_short_as_they_can_be() -> None:
    rate = {"float": [1.0e-5, 1.0e-3], "log": True}
    space = make_space({"space": {"stages.a.optimizer.learning_rate": rate, "stages.b.optimizer.learning_rate": rate}})
    assert [knob.name for knob in knobs_of(space, {})] == ["a.optimizer.learning_rate", "b.optimizer.learning_rate"]
    stages = [{"a": {}, "b": {}}, {"b": {}, "a": {}}]
    losses = [{"name": "kl"}, {"name": "kl", "temperature": 2.0}, {"name": "m3se"}]
    both = make_space({"space": {"stages": {"choice": stages}, "loss": {"choice": losses}}})
    order, loss = knobs_of(both, {"loss": {"name": "kl", "weight": 1.0}})
    assert [order.label(one) for one in stages] == ["a > b", "b > a"]
    assert [order.place(one) for one in stages] == [0.25, 0.75]
    assert not order.has({"stages": stages[0]}, stages[1])
    assert [loss.label(one) for one in losses] == ["kl", "kl (temperature 2)", "m3se"]
    assert loss.default_label() == "kl"
    temperature, negatives, _ = knobs_of(make_study().space, make_search_recipe().model_dump(mode="json"))
    assert (temperature.key, negatives.key) == (TEMPERATURE, NEGATIVES)
    assert temperature.default == 2.0
    # The middle of 0.5 to 8 in the logarithm is 2; choices stand in the middle of thirds.
    assert temperature.place(2.0) == pytest.approx(0.5)
    assert [negatives.place(value) for value in (1, 3, 7)] == pytest.approx([1 / 6, 1 / 2, 5 / 6])


def test_pictures_show_every_trial(content: StudyContent) -> None:
    keys = [picture.key for picture in content.pictures]
    assert keys[:6] == ["history", "curves", "importance", "slice-0", "slice-1", "slice-2"]
    assert {"parallel", "cost"} < set(keys)
    assert len([key for key in keys if key.startswith("pair-")]) == 3
    drawn = {picture.key: picture.drawing for picture in content.pictures}
    signs = {key: len(list(root.iter("path"))) for key, root in drawn.items()}
    # Twenty signs and four in the legend; nineteen trials have a measure, and their legend has three.
    assert signs["history"] == 20 + 4
    assert signs["slice-0"] == signs["cost"] == signs["curves"] == 19 + 3
    assert len(list(drawn["parallel"].iter("polyline"))) == 19 + 3
    for root in drawn.values():
        for element in root.iter():
            for name in ("x", "y", "x1", "y1", "x2", "y2"):
                assert -1 <= float(element.get(name, "0")) <= 700


def test_the_page_holds_everything_and_nothing_breaks_out(content: StudyContent, tmp_path: Path) -> None:
    page, markdown, data, folder = write_page(content, tmp_path / "search.html")
    text = page.read_text()
    assert "<script" not in text
    assert EVIL not in text
    assert "default-src 'none'" in text
    assert text.count("<svg") == len(content.pictures)
    for picture in content.pictures:
        assert f"](search_files/{picture.key}.svg)" in markdown.read_text()
        ElementTree.parse(folder / f"{picture.key}.svg")
    found = json.loads(data.read_text())
    assert found["best"]["values"][RATE] == pytest.approx(10 ** (-5 + 26 / 19))
    assert found["cost"]["steps_saved"] == 120
    assert found["importance"][0]["keys"][RATE]["mattered"] is True
    assert from_plain(found["confirmation"]) == make_confirmation()
    assert "  | " not in "\n".join(line for line in markdown.read_text().splitlines() if line.startswith("| 19 |"))
