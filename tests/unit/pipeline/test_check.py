"""What can be known to fail is told in one line before anything is spent."""

from __future__ import annotations

import pytest

from stillhouse.errors import StillhouseError
from stillhouse.pipeline.check import check, searched_space
from stillhouse.recipe import load_recipe


@pytest.mark.parametrize("name", ["demo", "smoke", "pydocs-full"])
def test_shipped_recipes_pass(name):
    check(load_recipe(name))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("search.space=typo", "typo: no such file"),
        ("evaluation={measures: [nDCG10], select_by: nDCG10}", "nDCG10"),
        ("baselines.b={stages.distil.loss: {name: contrastive}}", "baselines.b"),
        ("teachers={mine: {scores: nowhere.tsv}}", "nowhere.tsv: no such file"),
    ],
)
def test_a_mistake_is_one_line(setting, said):
    with pytest.raises(StillhouseError, match=said) as caught:
        check(load_recipe("smoke", [setting]))
    assert "\n" not in str(caught.value)


def test_a_space_over_what_trials_ignore_is_refused(tmp_path):
    path = tmp_path / "depth.yaml"
    path.write_text("space: {candidates.depth: {choice: [8, 16]}}\n")
    with pytest.raises(StillhouseError, match=r"candidates\.depth: not searchable"):
        searched_space(load_recipe("smoke", [f"search.space={path}"]))


def test_trial_overrides_hold_in_trials_only():
    recipe = load_recipe("demo")
    space, trial = searched_space(recipe)
    assert trial.stages["distill"].max_steps == 20
    assert recipe.stages["distill"].max_steps is None
    assert space.trials == 8
