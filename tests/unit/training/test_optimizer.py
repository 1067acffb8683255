"""The schedule in closed form, and what is decayed."""

from __future__ import annotations

import math

import pytest

from stillhouse.rankers import RANKERS
from stillhouse.recipe.tree import OptimizerSpec
from stillhouse.training.optimizer import make_optimizer, schedule_factor, set_rates


def test_linear_schedule_warms_up_and_ends_above_zero():
    spec = OptimizerSpec(warmup_fraction=0.2)
    # 10 steps, 2 of warm-up: 1/3, 2/3, then from 1 down by 1/8 a step.
    factors = [schedule_factor(spec, step, 10) for step in range(10)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_is_half_way_down_in_the_middle():
    spec = OptimizerSpec(schedule="cosine", warmup_fraction=0.0)
    assert schedule_factor(spec, 50, 100) == pytest.approx(0.5)
    assert schedule_factor(spec, 25, 100) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_constant_stays():
    assert schedule_factor(OptimizerSpec(schedule="constant", warmup_fraction=0.0), 99, 100) == 1.0


def test_norms_and_biases_are_not_decayed_and_the_head_has_its_rate(backbone):
    ranker = RANKERS["cross_encoder"].from_backbone(
        str(backbone), pooling="mean", query_max_length=8, doc_max_length=16
    )
    spec = OptimizerSpec(learning_rate=1e-4, head_learning_rate=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(ranker, spec)
    set_rates(optimizer, 0.5)
    names = {id(parameter): name for name, parameter in ranker.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["weight_decay"] == (0.1 if parameter.ndim >= 2 else 0.0), name
            assert group["lr"] == pytest.approx(0.5 * (1e-2 if name in ranker.fresh_parameters() else 1e-4)), name
    assert seen == {name for name, parameter in ranker.named_parameters() if parameter.requires_grad}
    assert ranker.fresh_parameters()
