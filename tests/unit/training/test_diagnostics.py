"""Diagnostics against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stillhouse.losses import LOSSES
from stillhouse.training.diagnostics import alarms, diagnose, means, merge

NAN, INF = math.nan, math.inf


def groups() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A plain query; one with a missing teacher score and padding; one with a single document."""
    student = torch.tensor([[2.0, 1.5, 0.0, -1.0], [0.5, 0.25, 1.0, -INF], [4.0, NAN, NAN, INF]], dtype=torch.float64)
    teacher = torch.tensor([[9.0, 1.0, 0.5, -2.0], [1.0, 2.0, NAN, INF], [3.0, NAN, NAN, NAN]], dtype=torch.float64)
    label = torch.tensor([[1, 0, 0, 0], [2, 0, 1, 7], [1, 7, 7, 7]])
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    return student, teacher, label, mask


def test_each_number() -> None:
    found = diagnose(*groups())
    expected = {
        # Pairs: document 0 over 1, 2, 3; then 0 over 1 (teacher: below), while document 2 has no teacher score.
        "teacher_pairwise_accuracy": (3.0, 4.0),
        # Highest teacher probabilities: 1 / (1 + e^-8 + e^-8.5 + e^-11) = .99945 and .73; the third has one.
        "saturated_teacher": (1.0, 2.0),
        "positive_score": (2.0 + 0.5 + 1.0 + 4.0, 4.0),
        "negative_score": (1.5 + 0.0 - 1.0 + 0.25, 4.0),
        "score_range": (3.0 + 0.75, 2.0),
        # (2 - .5 / 3) / 3 and (.75 - .25) / .75
        "normalised_margin": ((2 - 0.5 / 3) / 3 + 0.5 / 0.75, 2.0),
        # Squares about .625: 1.375^2 + .875^2 + .625^2 + 1.625^2 = 5.6875, over 4; about .58333: .291667, over 3.
        "score_variance": (5.6875 / 4 + (0.0069444444 + 0.1111111111 + 0.1736111111) / 3, 2.0),
    }
    for name, (total, count) in expected.items():
        assert found[name] == pytest.approx((total, count), abs=1e-9), name
    assert set(found) == {*expected, "ce", "kl"}


def test_ce_and_kl_are_the_losses_without_temperature() -> None:
    found = means(diagnose(*groups()))
    for name, loss in (("ce", "softmax_ce"), ("kl", "kl")):
        assert found[name] == pytest.approx(LOSSES[loss].mean(*groups()).item())
    # Second row alone: the teacher gives documents 0 and 1 p = sigmoid(-1), the student q = sigmoid(.25).
    second = means(diagnose(*(x[1:2] for x in groups())))
    p, q = 1 / (1 + math.e), 1 / (1 + math.exp(-0.25))
    assert second["ce"] == pytest.approx(-p * math.log(q) - (1 - p) * math.log(1 - q))
    assert second["kl"] == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


def test_parts_merge_to_the_whole() -> None:
    whole = diagnose(*groups())
    parts = merge([diagnose(*(x[:1] for x in groups())), diagnose(*(x[1:] for x in groups()))])
    assert parts.keys() == whole.keys()
    for name, sums in whole.items():
        assert parts[name] == pytest.approx(sums)
    # (3 + 0.75) / 2, where a mean of the parts' means over unequal counts would not do.
    assert means(parts)["score_range"] == pytest.approx(1.875)
    assert merge([{"a": (1.0, 2.0)}, {"a": (3.0, 1.0), "b": (1.0, 1.0)}]) == {"a": (4.0, 3.0), "b": (1.0, 1.0)}


def test_what_was_never_counted_has_no_mean() -> None:
    student, teacher, _, mask = groups()
    found = means(diagnose(student, torch.full_like(teacher, NAN), torch.zeros(3, 4), mask))
    assert set(found) == {"negative_score", "score_range", "score_variance"}
    assert means(diagnose(student, teacher, torch.zeros(3, 4), torch.zeros_like(mask))) == {}


def test_no_gradient_and_bf16() -> None:
    student, teacher, label, mask = groups()
    student = student.bfloat16().requires_grad_()
    assert diagnose(student, teacher, label, mask)["score_range"] == (3.75, 2.0)
    assert student.grad is None


def test_alarms() -> None:
    # All scores of a query equal: variance 0, no range, so no normalised margin.
    teacher = torch.tensor([[20.0, 0.0], [0.0, 30.0]])
    collapsed = means(diagnose(torch.ones(2, 2), teacher, torch.tensor([[1, 0], [1, 0]]), torch.ones(2, 2).bool()))
    assert collapsed["score_variance"] == 0
    assert "normalised_margin" not in collapsed
    saturated, flat = alarms(collapsed)
    assert "in 100% of the queries" in saturated
    assert "collapsed" in flat
    assert alarms(means(diagnose(*groups()))) == []
    assert alarms({}) == []
