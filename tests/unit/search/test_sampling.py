from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest

from stillhouse.recipe import Recipe
from stillhouse.search import SearchSpace, make_space
from stillhouse.search.sampling import ask, encode_point, grid, make_sampler
from stillhouse.search.space import drawn_at_random
from tests.contracts.search_recipe import search_recipe

TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"
LOSS = "stages.distill.loss"
NUMBERS = {TEMPERATURE: {"float": [0.5, 8.0], "log": True}, NEGATIVES: {"int": [1, 15], "step": 2}}


@pytest.fixture
def recipe() -> Recipe:
    return search_recipe()


def study_of(space: SearchSpace) -> optuna.Study:
    directions = ["maximize" if mode == "max" else "minimize" for mode in space.modes]
    return optuna.create_study(directions=directions)


def quality(point: dict[str, Any]) -> float:
    return -((point[TEMPERATURE] - 3) ** 2) - 0.1 * abs(point[NEGATIVES] - 7)


def run(space: SearchSpace, recipe: Recipe, study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    points = []
    for _ in range(trials):
        trial, point = ask(study, space, recipe)
        values = [quality(point), point[NEGATIVES]][: len(space.metrics)]
        study.tell(trial, values)
        points.append(point)
    return points


CMAES = pytest.param("cmaes", marks=pytest.mark.skipif(find_spec("cmaes") is None, reason="needs the package cmaes"))


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "nsgaii", CMAES])
def test_draws_stay_inside_and_repeat_by_seed(name: str, recipe: Recipe) -> None:
    space = make_space({"space": NUMBERS, "sampler": {"name": name, "seed": 3}, "trials": 6})
    points = run(space, recipe, study_of(space), 6)
    for point in points:
        assert 0.5 <= point[TEMPERATURE] <= 8.0
        assert point[NEGATIVES] in range(1, 16, 2)
    assert run(space, recipe, study_of(space), 6) == points
    other = make_space({"space": NUMBERS, "sampler": {"name": name, "seed": 4}, "trials": 6})
    assert run(other, recipe, study_of(other), 6) != points


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii", CMAES])
def test_draws_go_on_after_a_break_as_without_one(name: str, recipe: Recipe, tmp_path: Path) -> None:
    """The sampler's state is in the storage: a process that opens it again draws what the first would have drawn."""
    space = make_space({"space": NUMBERS, "sampler": name, "trials": 10})
    whole = run(space, recipe, study_of(space), 10)
    points = []
    for trials in (6, 4):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
        study = optuna.create_study(storage=storage, study_name="toy", direction="maximize", load_if_exists=True)
        points += run(space, recipe, study, trials)
        storage.remove_session()
    assert points == whole


def late_quality(sampler: str, recipe: Recipe, seeds: int, trials: int) -> float:
    """Sum of the qualities of the second half, over seeds."""
    total = 0.0
    for seed in range(seeds):
        space = make_space({"space": NUMBERS, "sampler": {"name": sampler, "seed": seed}, "trials": trials})
        total += sum(quality(point) for point in run(space, recipe, study_of(space), trials)[trials // 2 :])
    return total


@pytest.mark.parametrize("name", ["tpe", "nsgaii", CMAES])
def test_later_draws_are_better_than_random(name: str, recipe: Recipe) -> None:
    assert late_quality(name, recipe, 4, 24) > late_quality("random", recipe, 4, 24)


def test_later_draws_of_a_gaussian_process_are_better_than_random(recipe: Recipe) -> None:
    assert late_quality("gp", recipe, 1, 12) > late_quality("random", recipe, 1, 12)


CONDITIONAL = {
    LOSS: {"choice": [{"name": "kl"}, {"name": "margin_mse"}]},
    TEMPERATURE: {"float": [0.5, 8.0], "log": True, "when": {"stages.distill.loss.name": "kl"}},
    NEGATIVES: {"int": [1, 15]},
}


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii", "gp"])
def test_conditional_keys_and_choices_are_drawn_by_every_sampler_that_takes_them(name: str, recipe: Recipe) -> None:
    space = make_space({"space": CONDITIONAL, "sampler": {"name": name, "seed": 2}, "trials": 9})

    def draws() -> list[dict[str, Any]]:
        study, points = study_of(space), []
        for _ in range(9):
            trial, point = ask(study, space, recipe)
            study.tell(trial, float(point[NEGATIVES]) + (point[LOSS]["name"] == "kl"))
            points.append(point)
        return points

    points = draws()
    assert {point[LOSS]["name"] for point in points} == {"kl", "margin_mse"}
    assert all((TEMPERATURE in point) == (point[LOSS]["name"] == "kl") for point in points)
    assert draws() == points
    # What a sampler cannot learn about is said.
    assert drawn_at_random(space) == ((TEMPERATURE,) if name in ("nsgaii", "gp") else ())


@pytest.mark.parametrize("name", ["tpe", "nsgaii", "gp", "random"])
def test_two_objectives(name: str, recipe: Recipe) -> None:
    space = make_space(
        {
            "space": NUMBERS,
            "sampler": name,
            "scheduler": "none",
            "metric": ["nDCG@10", "latency_ms"],
            "mode": ["max", "min"],
            "trials": 6,
        }
    )
    assert len(run(space, recipe, study_of(space), 6)) == 6


def test_grid_has_every_point_once_and_respects_conditions(recipe: Recipe) -> None:
    space = make_space(
        {
            "space": {
                LOSS: {"choice": [{"name": "kl"}, {"name": "margin_mse"}]},
                TEMPERATURE: {"float": [1.0, 2.0], "step": 0.5, "when": {"stages.distill.loss.name": "kl"}},
                NEGATIVES: {"choice": [1, 3]},
            },
            "sampler": "grid",
        }
    )
    points = grid(space, recipe)
    # kl: 3 temperatures x 2 negatives; margin_mse: 2 negatives
    assert len(points) == 8
    assert sorted(point[TEMPERATURE] for point in points if TEMPERATURE in point) == [1.0, 1.0, 1.5, 1.5, 2.0, 2.0]
    assert all(point not in points[:number] for number, point in enumerate(points))


def test_choices_of_mappings_survive_the_storage(recipe: Recipe) -> None:
    losses = [{"name": "kl", "temperature": 2.0}, {"name": "margin_mse"}]
    space = make_space({"space": {LOSS: {"choice": losses}}, "sampler": "random"})
    study = study_of(space)
    study.enqueue_trial(encode_point(space, {LOSS: losses[1]}))
    assert ask(study, space, recipe)[1] == {LOSS: losses[1]}
    assert ask(study, space, recipe)[1][LOSS] in losses


def test_a_small_search_is_not_all_random() -> None:
    space = make_space({"space": NUMBERS, "trials": 8})
    assert make_sampler(space, 0)._n_startup_trials == 4
