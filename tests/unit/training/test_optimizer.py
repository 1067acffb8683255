"""The schedule in closed form, and what is decayed."""

from __future__ import annotations

import math
import random

import pytest
import torch

from stillhouse.errors import TrainingError
from stillhouse.rankers import RANKERS
from stillhouse.recipe.tree import OptimizerSpec, StageSpec
from stillhouse.training.checkpoints import Progress
from stillhouse.training.optimizer import make_optimizer, schedule_factor, set_rates
from tests.contracts.tiny_models import write_model


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


def test_plateau_is_that_of_torch():
    # torch counts a value that ties with the best as bad too (threshold 0), and reduces after patience + 1 bad ones.
    rng = random.Random(0)
    values = [rng.choice([0.1, 0.2, 0.3, 0.4, 0.5]) for _ in range(40)]
    for patience in (1, 2, 3):
        stage = StageSpec.model_validate(
            {
                "loss": {"name": "kl"},
                "optimizer": {"schedule": "plateau", "plateau_factor": 0.7, "plateau_patience": patience},
            }
        )
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        expected = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=0.7, patience=patience - 1, threshold=0.0, eps=0.0
        )
        progress = Progress()
        for value in values:
            progress.record(value, stage)
            expected.step(value)
            spec = stage.optimizer.model_copy(update={"warmup_fraction": 0.0})
            factor = schedule_factor(spec, 1, 10, progress.plateau)
            assert factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_plateau_warms_up_like_the_others():
    spec = OptimizerSpec(schedule="plateau", warmup_fraction=0.2)
    assert [schedule_factor(spec, step, 10, 0.5) for step in (0, 1, 2, 9)] == pytest.approx([1 / 6, 1 / 3, 0.5, 0.5])


def test_early_stopping_counts_evaluations_in_a_row():
    stage = StageSpec.model_validate({"loss": {"name": "kl"}, "early_stopping": 2})
    progress = Progress()
    seen = []
    for value in (0.3, 0.2, 0.4, 0.4, 0.1):
        progress.record(value, stage)
        seen.append((progress.best_value, progress.since_best, progress.stopped))
    assert seen == [(0.3, 0, False), (0.3, 1, False), (0.4, 0, False), (0.4, 1, False), (0.4, 2, True)]


CASES = {
    "cross_encoder": ("bert", {}),
    "dual_encoder": ("distilbert", {"projection_dim": 8, "output_layer_norm": True, "learn_score_scale": True}),
    "colbert": ("roberta", {}),
    "prettr": ("electra", {"num_separate_layers": 1}),
    "tk": ("bert", {}),
    "causal_lm": ("qwen2", {}),
    "recurrent": ("recurrent_gemma", {}),
}


@pytest.mark.parametrize("key", RANKERS)
def test_no_architecture_decays_a_bias_or_a_norm(tmp_path, key):
    kind, options = CASES[key]
    folder = write_model(tmp_path / kind, kind)
    ranker = RANKERS[key].from_backbone(str(folder), query_max_length=8, doc_max_length=16, **options)
    names = {id(parameter): name for name, parameter in ranker.named_parameters()}
    groups = make_optimizer(ranker, OptimizerSpec(weight_decay=0.1)).param_groups
    decayed = {names[id(one)] for group in groups if group["weight_decay"] for one in group["params"]}
    kept = {names[id(one)] for group in groups if not group["weight_decay"] for one in group["params"]}
    # Every parameter of a norm module, whatever it is called, and every bias.
    norms = {
        f"{module}.{name}"
        for module, one in ranker.named_modules()
        if "norm" in type(one).__name__.lower()
        for name, _ in one.named_parameters(recurse=False)
    }
    trained = {name for name, one in ranker.named_parameters() if one.requires_grad}
    assert norms
    undecayed = (norms | {name for name in trained if name.endswith("bias")}) & trained
    assert undecayed <= kept
    # The rest that is not decayed: mixing factors and scales, one number or one vector each.
    others = kept - undecayed
    assert {name.rpartition(".")[2] for name in others} <= {"alpha", "log_scale", "recurrent_param"}
    assert decayed | kept == trained


def test_kernels_have_a_rate_of_their_own(backbone):
    ranker = RANKERS["tk"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16)
    spec = OptimizerSpec(learning_rate=1e-4, head_learning_rate=1e-3, kernel_learning_rate=1e-2)
    names = {id(parameter): name for name, parameter in ranker.named_parameters()}
    rates = {
        names[id(one)]: group["lr"] for group in make_optimizer(ranker, spec).param_groups for one in group["params"]
    }
    assert rates.pop("kernels.weight") == 1e-2
    assert rates.pop("embedding.weight") == 1e-4
    assert set(rates.values()) == {1e-3}


def test_a_ranker_without_kernels_refuses_their_rate(backbone):
    ranker = RANKERS["colbert"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16)
    with pytest.raises(TrainingError, match="kernel_learning_rate: colbert has no kernels"):
        make_optimizer(ranker, OptimizerSpec(kernel_learning_rate=1e-2))
