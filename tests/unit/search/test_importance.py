"""Importance of drawn keys, against functions whose shares of the variance are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stillhouse.search.importance import Importance, best, importances, judge
from stillhouse.search.record import Report, Trial
from stillhouse.search.space import SearchSpace, make_space

RATE, NEGATIVES, NOTHING = "optimizer.learning_rate", "groups.num_negatives", "seed"
SPACE = make_space(
    {
        "space": {
            RATE: {"float": [1.0e-6, 1.0e-2], "log": True},
            NEGATIVES: {"choice": [1, 3]},
            NOTHING: {"float": [0.0, 1.0]},
        }
    }
)


def point_of(number: int) -> dict[str, Any]:
    """Points that fill the space evenly: multiples of two irrational numbers, and each choice in turn."""
    rate = 10 ** (-6 + 4 * (number * 0.6180339887 % 1))
    return {RATE: rate, NEGATIVES: [1, 3][number // 2 % 2], NOTHING: number * 0.7548776662 % 1}


def value(point: dict[str, Any]) -> float:
    """2 u and a coin of -1 and 1: variances 4/12 and 1, so shares 1/4 and 3/4."""
    u = (math.log10(point[RATE]) + 6) / 4
    return 2 * u + (1 if point[NEGATIVES] == 3 else -1)


POINTS = [(point, value(point)) for point in map(point_of, range(40))]


@pytest.fixture(scope="module")
def judged() -> Importance:
    return judge(SPACE, POINTS, "finished trials")


def test_shares_are_those_of_the_variance(judged: Importance) -> None:
    # Over the logarithm, as it is drawn: on the plain range most points lie in one corner.
    assert judged.evaluator == "fanova"
    assert judged.keys[RATE].share == pytest.approx(1 / 4, abs=0.05)
    assert judged.keys[NEGATIVES].share == pytest.approx(3 / 4, abs=0.05)
    assert judged.keys[NOTHING].share == pytest.approx(0, abs=0.05)


def test_what_does_nothing_is_not_above_chance(judged: Importance) -> None:
    assert judged.keys[NEGATIVES].mattered
    assert not judged.keys[NOTHING].mattered
    assert judged.keys[NOTHING].chance is not None
    assert 0 < judged.keys[NOTHING].chance < 1


def test_without_forests_the_order_is_the_same() -> None:
    # Of who is in the best quarter the rate decides all here: the range is 40 and the coin 2.
    rates = [(point, 20 * value(point) - 19 * (1 if point[NEGATIVES] == 3 else -1)) for point, _ in POINTS]
    found = judge(SPACE, rates, "finished trials", evaluator="ped-anova")
    assert found.evaluator == "ped-anova"
    shares = {key: one.share or 0.0 for key, one in found.keys.items()}
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == RATE


def conditional() -> SearchSpace:
    return make_space(
        {
            "space": {
                "loss": {"choice": ["kl", "mse"]},
                "temperature": {"float": [0.0, 1.0], "when": {"loss": "kl"}},
            }
        }
    )


def test_a_conditional_key_is_judged_where_it_was_drawn() -> None:
    points: list[dict[str, Any]] = [{"loss": "kl", "temperature": number / 9} for number in range(10)]
    points += [{"loss": "mse"} for _ in range(4)]
    found = judge(conditional(), [(point, point.get("temperature", 0.5)) for point in points], "finished trials")
    assert (found.trials, found.keys["loss"].trials, found.keys["temperature"].trials) == (14, 14, 10)
    # Among those ten nothing else was drawn that varies.
    assert found.keys["temperature"].share == pytest.approx(1)


def test_too_few_trials_tell_nothing() -> None:
    points: list[dict[str, Any]] = [{"loss": "kl", "temperature": number / 9} for number in range(3)]
    points += [{"loss": "mse"} for _ in range(5)]
    found = judge(conditional(), [(point, float(len(point))) for point in points], "finished trials")
    assert found.keys["temperature"].share is None
    assert found.keys["temperature"].reason == "there are 3 trials to go by, 6 are needed"
    assert found.keys["loss"].share is not None
    same = judge(SPACE, [(point, 0.5) for point, _ in POINTS], "finished trials")
    assert same.keys[RATE].reason == "all of them measured the same"
    nothing = judge(SPACE, [], "finished trials")
    assert {one.trials for one in nothing.keys.values()} == {0}


def trial(number: int, state: str, curve: list[float]) -> Trial:
    point = {RATE: 10 ** -(2 + number % 5), NEGATIVES: 1, NOTHING: number / 12}
    reports = [Report(step, 0.0, {"nDCG@10": value}) for step, value in enumerate(curve, start=1)]
    metrics = (max(curve),) if curve else None
    return Trial(number, f"key{number}", point, state, reports, metrics)  # type: ignore[arg-type]


def test_stopped_trials_are_compared_where_all_still_ran() -> None:
    trials = [trial(number, "FINISHED", [0.1 * number, 0.2, 0.9]) for number in range(4)]
    trials += [trial(number, "PRUNED", [0.05 * number, 0.3][: 1 + number % 2]) for number in range(4, 9)]
    trials.append(trial(9, "FAILED", []))
    finished, early = importances(trials, SPACE)
    assert (finished.trials, early.trials) == (4, 9)
    assert early.basis == "all trials at evaluation 1"
    assert best([finished, early]) is early
    assert len(importances(trials[:4], SPACE)) == 1
