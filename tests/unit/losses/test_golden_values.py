"""Two groups of four documents, worked out once in float64 by hand and with NumPy. The positive is document 0."""

from __future__ import annotations

import pytest
import torch

from stillhouse.losses import LOSSES

TEACHER = [[3.0, 1.0, 0.5, -2.0], [1.0, 2.0, 0.0, -1.0]]
STUDENT = [[2.0, 1.5, 0.0, -1.0], [0.5, 0.25, 1.0, -0.5]]

UNSCALED = {"scale_by_temperature_squared": False}
MEANS = [
    # name, parameters, number of documents, weighted mean
    ("contrastive", {}, 4, 0.9584644),
    ("contrastive", {"label_smoothing": 0.1}, 4, 1.0365894),
    ("ranknet", {}, 2, 0.5250082),
    ("pointwise_mse", {"reduction": "mean"}, 4, 0.8828125),
    ("pointwise_mse", {}, 2, 2.28125),
    ("pointwise_mse", {"reduction": "mean"}, 2, 1.140625),
    ("margin_mse", {}, 2, 1.90625),
    ("margin_mse", {}, 4, 1.8854167),
    ("softmax_ce", {}, 4, 1.1361458),
    ("softmax_ce", {"temperature": 2.0, **UNSCALED}, 4, 1.2726782),
    ("softmax_ce", {"temperature": 0.5, **UNSCALED}, 4, 1.1444396),
    ("kl", {}, 4, 0.3531187),
    ("kl", {"temperature": 2.0, **UNSCALED}, 4, 0.1060891),
    ("kl", {"temperature": 2.0}, 4, 0.4243565),
    ("kl", {"temperature": 0.5, **UNSCALED}, 4, 0.8519424),
    ("kl", {"temperature": 0.5}, 4, 0.2129856),
    ("kl", {"teacher_temperature": 2.0}, 4, 0.1465373),
    ("m3se", {}, 4, 2.28125),
    ("m3se", {"hinge_power": 2}, 4, 2.1875),
    ("ranknet_margin_weighted", {}, 2, 0.7620467),
    ("ranknet_order", {}, 4, 0.4234659),
    ("ranknet_rank_weighted", {}, 4, 0.1016263),
    ("mse_ranknet", {}, 2, 1.140625 + 0.5250082),
]
ROWS = [
    # name, parameters, value of each group
    ("pointwise_mse", {}, [2.5, 4.5625]),
    ("margin_mse", {"pair_reduction": "sum"}, [6.5, 4.8125]),
    ("m3se", {}, [2.25, 2.3125]),
    ("m3se", {"hinge_power": 2}, [2.25, 2.125]),
    ("rankdistil_b", {"hinge_power": 1}, [2.5, 1.5]),
    ("rankdistil_b", {}, [3.25, 1.3125]),
    # (1 - 2)^2 + 1.5^2 + 0 + 1 and (1 - .5)^2 + .25^2 + 1 + .5^2
    ("label_mse", {}, [4.25, 1.5625]),
]


def groups(num_docs: int) -> tuple[torch.Tensor, ...]:
    student = torch.tensor(STUDENT, dtype=torch.float64)[:, :num_docs]
    teacher = torch.tensor(TEACHER, dtype=torch.float64)[:, :num_docs]
    label = torch.zeros_like(student)
    label[:, 0] = 1
    return student, teacher, label, torch.ones_like(student, dtype=torch.bool)


@pytest.mark.parametrize(("name", "params", "num_docs", "expected"), MEANS)
def test_mean(name: str, params: dict, num_docs: int, expected: float) -> None:
    assert LOSSES[name].mean(*groups(num_docs), **params).item() == pytest.approx(expected, abs=5e-8)


@pytest.mark.parametrize(("name", "params", "expected"), ROWS)
def test_value_of_each_query(name: str, params: dict, expected: list[float]) -> None:
    value_Q, weight_Q = LOSSES[name](*groups(4), **params)
    assert value_Q.tolist() == pytest.approx(expected, abs=1e-12)
    assert weight_Q.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["ranknet_order", "ranknet_rank_weighted"])
def test_weight_is_the_number_of_pairs(name: str) -> None:
    _, weight_Q = LOSSES[name](*groups(4))
    assert weight_Q.tolist() == [6.0, 6.0]
