from __future__ import annotations

import random
from typing import Any

import pytest

from stillhouse.errors import RecipeError
from stillhouse.recipe import Recipe, override
from stillhouse.search import SearchSpace, check_space, draw, make_space
from stillhouse.search.dimensions import Choice, FloatRange, IntRange
from tests.contracts.search_recipe import search_recipe

TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"
LOSS = "stages.distill.loss"


@pytest.fixture
def recipe() -> Recipe:
    return search_recipe(groups={"depth": 10})


def space(**changes: Any) -> dict[str, Any]:
    return {"space": {TEMPERATURE: {"float": [1, 2]}}, **changes}


def dimension(key: str, **what: Any) -> dict[str, Any]:
    return space(space={key: what})


IMPOSSIBLE = {
    "unknown key": (space(trails=3), "trails: unknown key; did you mean trials?"),
    "ends swapped": (dimension(TEMPERATURE, float=[2, 1]), f"space.{TEMPERATURE}: impossible range [2.0, 1.0]"),
    "log of zero": (dimension(TEMPERATURE, float=[0, 1], log=True), "log: true needs a range above 0"),
    "log and step": (dimension(NEGATIVES, int=[1, 9], log=True, step=2), "log and step cannot be combined"),
    "step beside": (dimension(NEGATIVES, int=[1, 9], step=3), "is not a whole number of steps of 3"),
    "typo in dimension": (dimension(TEMPERATURE, float=[1, 2], lag=True), "lag: unknown key; did you mean log?"),
    "no dimension": (space(space={TEMPERATURE: 3}), "expected one of {float: [lo, hi]}"),
    "two kinds": (dimension(TEMPERATURE, float=[1, 2], choice=[1]), "choice: unknown key; known keys: float, log"),
    "text in range": (dimension(TEMPERATURE, float=["a", 2]), "input should be a valid number, found 'a'"),
    "empty": (space(space={}), "space: dictionary should have at least 1 item"),
    "twin choice": (dimension(NEGATIVES, choice=[1, 3, 1]), "the choice 1 stands twice"),
    "no trials": (space(trials=0), "trials: input should be greater than or equal to 1"),
    "unknown sampler": (space(sampler="pso"), "sampler.name: input should be 'tpe'"),
    "unknown scheduler": (space(scheduler="bohb"), "scheduler.name: input should be 'asha'"),
    "pbt": (space(scheduler="pbt"), "scheduler: scheduler pbt changes values in mid-training"),
    "pbt of a grid": (space(scheduler={"name": "pbt"}, sampler="grid"), "no recipe can train again; use asha"),
    "costs stopped early": (
        space(metric="latency_ms", mode="min"),
        "latency_ms is measured once, at the end: asha has nothing to judge; write `scheduler: none`",
    ),
    "two objectives stopped": (
        space(metric=["nDCG@10", "latency_ms"], mode=["max", "min"]),
        "two objectives cannot be stopped early by asha; write `scheduler: none`",
    ),
    "modes missing": (
        space(metric=["nDCG@10", "latency_ms"], scheduler="none"),
        "metric names 2 measures, mode gives 1",
    ),
    "cmaes of choices": (
        space(sampler="cmaes", space={NEGATIVES: {"choice": [1, 3]}}),
        "sampler cmaes draws unconditional numbers only",
    ),
    "cmaes of two": (
        space(sampler="cmaes", metric=["nDCG@10", "RR@10"], mode=["max", "max"], scheduler="none"),
        "sampler cmaes has one objective only",
    ),
    "cmaes of one": (space(sampler="cmaes"), "sampler cmaes needs two numbers or more"),
    "seeds stopped": (space(seeds=3), "only their mean can be judged; write `scheduler: none`"),
    "grid of a continuum": (space(sampler="grid"), f"give {TEMPERATURE} a `choice` or a `step`"),
    "start outside": (space(start=[{TEMPERATURE: 5}]), f"start point 1: {TEMPERATURE} cannot be 5"),
    "start elsewhere": (space(start=[{NEGATIVES: 1}]), f"start point 1: {NEGATIVES} is not in the space"),
    "condition below": (
        space(
            space={TEMPERATURE: {"float": [1, 2], "when": {NEGATIVES: 3}}, NEGATIVES: {"choice": [1, 3]}},
        ),
        f"{TEMPERATURE}: `when` names {NEGATIVES}, which must stand above it",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_space_is_one_line(case: str) -> None:
    tree, line = IMPOSSIBLE[case]
    with pytest.raises(RecipeError) as error:
        make_space(tree, "space.yaml")
    assert str(error.value).startswith("space.yaml: ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


UNFIT = {
    "no such key": (
        dimension("stages.distill.loss.temperatur", float=[1, 2]),
        f"no such key in recipe toy; did you mean {TEMPERATURE}?",
    ),
    "an end out of range": (dimension(TEMPERATURE, float=[-1, 2]), f"{TEMPERATURE}: -1.0 is not possible"),
    "wrong type": (dimension(NEGATIVES, float=[1, 3]), "1.0 is not possible: recipe toy"),
    "unfit choice": (dimension("stages.distill.loss.name", choice=["kl", "no"]), "'no' is not possible"),
    "beyond the candidates": (dimension("stages.distill.groups.depth", int=[10, 60]), "candidates.depth gives only 30"),
    "not measured": (space(metric="nDCG@20"), "metric nDCG@20 is not measured by recipe toy"),
    "costs of many workers": (
        space(
            metric="parameters",
            mode="min",
            scheduler="none",
            space={TEMPERATURE: {"float": [1, 2]}, "scale.num_workers": {"choice": [1, 2]}},
        ),
        "parameters is measured in trials of one worker",
    ),
    "storage of nothing": (
        space(
            metric="bytes_per_doc",
            mode="min",
            scheduler="none",
            space={"student": {"choice": [{"ranker": "cross_encoder", "backbone": "none"}]}},
        ),
        "bytes_per_doc: documents have no representation under cross_encoder",
    ),
    "lost with a choice": (
        space(space={LOSS: {"choice": [{"name": "kl"}, {"name": "listnet"}]}, TEMPERATURE: {"float": [1, 2]}}),
        f'{TEMPERATURE}: no such key in recipe toy with {{"{LOSS}": {{"name": "listnet"}}}}',
    ),
    "never drawn": (
        dimension(TEMPERATURE, float=[1, 2], when={"stages.distill.loss.name": "margin_mse"}),
        f"{TEMPERATURE}: never drawn",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_space_that_does_not_fit_the_recipe_is_one_line(case: str, recipe: Recipe) -> None:
    tree, line = UNFIT[case]
    with pytest.raises(RecipeError) as error:
        check_space(make_space(tree), recipe, "space.yaml")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def pick_from(rng: random.Random):
    def pick(key: str, one: Any) -> Any:
        if isinstance(one, Choice):
            return rng.choice(one.choice)
        low, high = one.bounds
        return rng.randint(low, high) if isinstance(one, IntRange) else rng.uniform(low, high)

    return pick


def test_conditional_keys_are_drawn_only_where_they_hold(recipe: Recipe) -> None:
    losses = [{"name": "kl"}, {"name": "margin_mse"}]
    made = make_space(
        space(
            space={
                LOSS: {"choice": losses},
                TEMPERATURE: {"float": [1, 2], "when": {"stages.distill.loss.name": "kl"}},
                "stages.distill.loss.pair_reduction": {
                    "choice": ["mean", "sum"],
                    "when": {"stages.distill.loss.name": ["margin_mse", "ranknet"]},
                },
            }
        )
    )
    check_space(made, recipe)
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        point = draw(made, recipe, pick_from(rng))
        name = point[LOSS]["name"]
        seen.add(name)
        assert (TEMPERATURE in point) == (name == "kl")
        assert ("stages.distill.loss.pair_reduction" in point) == (name == "margin_mse")
        drawn = override(recipe, point).stages["distill"].loss
        assert drawn.name == name
        assert name != "kl" or drawn.temperature == point[TEMPERATURE]
    assert seen == {"kl", "margin_mse"}
    assert made.space[LOSS].ends() == losses  # untouched by the values drawn inside them


def test_a_condition_may_be_met_by_the_recipe_alone(recipe: Recipe) -> None:
    made = make_space(dimension(TEMPERATURE, float=[1, 2], when={"student.ranker": "dual_encoder"}))
    check_space(made, recipe)
    assert TEMPERATURE in draw(made, recipe, pick_from(random.Random(0)))


def test_schema_knows_the_shapes_of_the_file() -> None:
    schema = SearchSpace.model_json_schema()
    assert set(schema["properties"]) >= {"metric", "mode", "space", "sampler", "scheduler", "trials", "start"}
    assert set(schema["$defs"]["FloatRange"]["properties"]) == {"float", "log", "step", "when"}
    kinds = schema["properties"]["scheduler"]["anyOf"]
    assert {"enum": ["asha", "median", "hyperband", "none"], "type": "string"} in kinds


def test_a_name_alone_is_enough_for_sampler_and_scheduler() -> None:
    made = make_space(space(sampler="random", scheduler="none"))
    assert (made.sampler.name, made.scheduler.name) == ("random", "none")


def test_what_can_be_drawn() -> None:
    stepped = FloatRange.model_validate_json('{"float": [0.5, 2.0], "step": 0.5}')
    assert [value for value in (0.5, 1.0, 1.2, 2.0, 2.5) if stepped.has(value)] == [0.5, 1.0, 2.0]
    whole = IntRange.model_validate_json('{"int": [2, 6], "step": 2}')
    assert [value for value in (1, 2, 3, 4, 6, 7) if whole.has(value)] == [2, 4, 6]
    assert not whole.has(2.0)
