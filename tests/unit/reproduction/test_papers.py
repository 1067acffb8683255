"""The experiments fit their recipes, and their recipes fit two cores."""

from __future__ import annotations

import pytest

from stillhouse.recipe import load_recipe, override, shipped_files
from stillhouse.reproduction.harness import variants
from stillhouse.reproduction.papers import EXPERIMENTS, STUDENT


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_the_students_of_the_recipe(name):
    experiment, recipe = EXPERIMENTS[name], load_recipe(name)
    rows = variants(recipe)
    assert set(experiment.rows) == set(rows)
    assert len(rows) <= 6
    for row in experiment.rows.values():
        assert len(row.paper) in (0, len(experiment.columns))
    named = {row for claim in experiment.claims for row in (claim.a, claim.b)}
    if experiment.picture:
        named |= {row for points in experiment.picture.lines.values() for _, row in points}
    assert named <= set(rows)


def test_every_mini_is_an_experiment_and_has_a_full_recipe():
    shipped = {path.stem for path in shipped_files("jobs/recipes")}
    assert {name for name in shipped if name.endswith("-mini")} == set(EXPERIMENTS)
    assert {name.removesuffix("-mini") for name in EXPERIMENTS} <= shipped


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_seed_changes_students_only(name):
    recipe = load_recipe(name)
    assert recipe.collection.seed is not None
    assert all(teacher.seed is not None for teacher in recipe.teachers.values())
    assert recipe.retrain.num_workers == 1  # the driver's process: no Ray starts for a training


@pytest.mark.parametrize("size", [1, 2, 3])
def test_contrastive_and_distilled_differ_in_the_objective_only(size):
    rows = variants(load_recipe("xu-objectives-mini"))
    distilled = rows[STUDENT if size == 3 else f"kd_{size}"]
    contrastive = rows[f"cl_{size}"]
    assert contrastive.stages["train"].loss.name == "contrastive"
    assert distilled.stages["train"].loss.name == "kl"
    same = override(contrastive, {"stages.train.loss": distilled.stages["train"].loss.model_dump(mode="json")})
    assert same.model_copy(update={"baselines": {}}) == distilled.model_copy(update={"baselines": {}})


def test_two_stage_rows_are_what_their_names_say():
    rows = variants(load_recipe("pezzuti-stages-mini"))
    losses = {name: [stage.loss.name for stage in row.stages.values()] for name, row in rows.items()}
    c, d = "contrastive", "ranknet_order"
    assert losses == {
        STUDENT: [c],
        "d": [d],
        "c_d_low": [c, d],
        "c_d_high": [c, d],
        "d_c_low": [d, c],
        "d_c_high": [d, c],
    }
    # The first stages of C then D are the whole of C, and so on: only what follows differs.
    for name, alone in (("c_d_low", STUDENT), ("c_d_high", STUDENT), ("d_c_low", "d"), ("d_c_high", "d")):
        assert rows[name].stages["train"] == rows[alone].stages["train"]
    rates = {
        name: rows[name].stages["second"].optimizer.learning_rate for name in rows if "_c_" in name or "_d_" in name
    }
    assert rates == {"c_d_low": 5e-6, "c_d_high": 5e-4, "d_c_low": 5e-6, "d_c_high": 5e-4}
