"""What holds for every loss: padding, missing scores, order of documents, gradients, extreme scores."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from stillhouse.errors import RecipeError, TrainingError
from stillhouse.losses import LOSSES
from stillhouse.recipe.losses import LossSpec

SHIFT_CHANGES_IT = {"label_mse", "pointwise_mse", "rankdistil_b", "mse_ranknet"}
READS_MAGNITUDES = {
    *("pointwise_mse", "margin_mse", "softmax_ce", "kl", "m3se", "rankdistil_b", "ranknet_margin_weighted"),
    "mse_ranknet",
}
READS_ORDER = {"ranknet_order", "ranknet_rank_weighted", "listmle", "adr_mse"}
NO_LABELS = {"pointwise_mse", "softmax_ce", "kl"} | READS_ORDER
SPEAKS_OF_ONE_DOCUMENT = {"label_mse", "pointwise_mse", "rankdistil_b", "mse_ranknet"}
SPEAKS_WITHOUT_POSITIVE = NO_LABELS | {"label_mse", "m3se", "rankdistil_b", "mse_ranknet"}


def value_weight_gradient(name: str, student: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    student = student.detach().clone().requires_grad_()
    value_Q, weight_Q = LOSSES[name](student, *rest)
    (value_Q * weight_Q).sum().backward()
    assert student.grad is not None
    return value_Q.detach(), weight_Q, student.grad


def padding(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    garbage = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38], dtype=torch.float64).repeat(shape[0], 1)
    return garbage, garbage.flip(-1), torch.full(shape, 7), torch.zeros(shape, dtype=torch.bool)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_padding_changes_neither_value_nor_gradient(self, name: str, make_groups: Callable) -> None:
        groups = make_groups(6, 9, padded=0.0)
        value, weight, gradient = value_weight_gradient(name, *groups)
        padded = [torch.cat([x[:, :4], pad, x[:, 4:]], 1) for x, pad in zip(groups, padding((6, 4)), strict=True)]
        value_padded, weight_padded, gradient_padded = value_weight_gradient(name, *padded)

        torch.testing.assert_close(value_padded, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient_padded[:, 4:8], torch.zeros(6, 4, dtype=torch.float64), rtol=0, atol=0)
        kept = torch.cat([gradient_padded[:, :4], gradient_padded[:, 8:]], 1)
        torch.testing.assert_close(kept, gradient, rtol=1e-12, atol=1e-12)
        assert torch.equal(weight_padded, weight)

    def test_a_query_does_not_see_the_others(self, name: str, make_groups: Callable) -> None:
        groups = make_groups(5, 7)
        value, weight, gradient = value_weight_gradient(name, *groups)
        for q in range(5):
            alone = value_weight_gradient(name, *(x[q : q + 1] for x in groups))
            for one, many in zip(alone, (value, weight, gradient), strict=True):
                torch.testing.assert_close(one, many[q : q + 1], rtol=1e-12, atol=1e-12)

    def test_order_of_documents_changes_nothing(self, name: str, make_groups: Callable) -> None:
        groups = make_groups(6, 9)
        turned = torch.randperm(9, generator=torch.Generator().manual_seed(1))
        value, weight, gradient = value_weight_gradient(name, *groups)
        value_turned, weight_turned, gradient_turned = value_weight_gradient(name, *(x[:, turned] for x in groups))
        torch.testing.assert_close(value_turned, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient_turned, gradient[:, turned], rtol=1e-12, atol=1e-12)
        assert torch.equal(weight_turned, weight)

    def test_shift_of_a_query_changes_nothing_where_only_margins_count(self, name: str, make_groups: Callable) -> None:
        student, *rest = make_groups(6, 9)
        shift_Q1 = torch.tensor([[3.0], [-2.0], [7.0], [0.5], [-9.0], [1.0]], dtype=torch.float64)
        value_Q, _ = LOSSES[name](student, *rest)
        shifted_Q, _ = LOSSES[name](student + shift_Q1, *rest)
        if name in SHIFT_CHANGES_IT:
            assert (shifted_Q - value_Q).abs().min() > 0.01
        else:
            torch.testing.assert_close(shifted_Q, value_Q, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("num_docs", [1, 2, 5])
    def test_gradient_equals_finite_differences(self, name: str, num_docs: int, make_groups: Callable) -> None:
        student, *rest = make_groups(4, num_docs, seed=5)
        student = torch.where(rest[2], student, 0.0).requires_grad_()
        assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, *rest)[0], (student,), eps=1e-6, atol=1e-6)

    def test_teacher_is_a_constant(self, name: str, make_groups: Callable) -> None:
        student, teacher, label, mask = make_groups(3, 5, unscored=0.0, padded=0.0)
        teacher.requires_grad_()
        LOSSES[name].mean(student.requires_grad_(), teacher, label, mask).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0

    def test_document_without_teacher_score(self, name: str, make_groups: Callable) -> None:
        """Dropped by what reads the teacher, kept by what reads labels only."""
        student, teacher, label, mask = make_groups(6, 9, unscored=0.3)
        loss = LOSSES[name]
        missing = teacher.isnan() & mask
        assert missing.any()
        as_padding = loss(student, teacher, label, mask & ~missing)
        as_scored = loss(student, torch.where(missing, 5.0, teacher), label, mask)
        found = loss(student, teacher, label, mask)
        same, different = (as_padding, as_scored) if loss.needs_teacher else (as_scored, as_padding)
        assert torch.equal(found[0], same[0])
        assert torch.equal(found[1], same[1])
        assert not torch.equal(found[0], different[0])

    def test_reads_what_it_says_it_reads(self, name: str, make_groups: Callable) -> None:
        student, teacher, label, mask = make_groups(6, 9, unscored=0.0, padded=0.0)
        loss = LOSSES[name]
        value_Q, _ = loss(student, teacher, label, mask)

        def changes(teacher: Tensor, label: Tensor) -> bool:
            return not torch.allclose(loss(student, teacher, label, mask)[0], value_Q)

        assert changes(teacher, label.flip(-1)) == loss.needs_labels
        assert changes(teacher.flip(-1), label) == loss.needs_teacher
        assert changes((teacher / 3).exp(), label) == loss.needs_magnitudes  # another scale, the same order

    @pytest.mark.parametrize(
        ("dtype", "wanted"), [("bfloat16", "float32"), ("float16", "float32"), ("float64", "float64")]
    )
    def test_computes_in_float32_at_least(self, name: str, dtype: str, wanted: str, make_groups: Callable) -> None:
        student, teacher, label, mask = make_groups(4, 6)
        low = student.to(getattr(torch, dtype)).requires_grad_()
        value_Q, weight_Q = LOSSES[name](low, teacher, label, mask)
        assert value_Q.dtype == weight_Q.dtype == getattr(torch, wanted)
        exact_Q, _ = LOSSES[name](low.detach().to(getattr(torch, wanted)), teacher, label, mask)
        assert torch.equal(value_Q, exact_Q)
        value_Q.sum().backward()
        assert low.grad.dtype == low.dtype
        assert low.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("case", ["huge", "huge_wrong_way", "ties", "one_left", "none_left"])
    def test_finite(self, name: str, case: str, dtype: torch.dtype, make_groups: Callable) -> None:
        student, teacher, label, mask = make_groups(6, 9)
        if case.startswith("huge"):
            student = torch.where(student > 0, 1e4, -1e4)
            teacher = torch.where(teacher > 1, 1e4, -1e4) * (-1 if case == "huge_wrong_way" else 1)
        if case == "ties":
            student, teacher = torch.full_like(student, 1.5), torch.full_like(teacher, -2.0)
        if case == "one_left":
            student, teacher, label, _ = make_groups(6, 9, padded=0.0)
            mask = torch.arange(9).expand(6, 9) == torch.arange(6)[:, None]
            student, teacher = (torch.where(mask, x, torch.inf) for x in (student, teacher))
        if case == "none_left":
            mask = torch.zeros_like(mask)
        value, weight, gradient = value_weight_gradient(name, student.to(dtype), teacher.to(dtype), label, mask)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        if case == "none_left":
            assert not value.any()
            assert not weight.any()

    def test_one_document(self, name: str) -> None:
        one = torch.tensor([[2.0], [2.0]])
        value, weight, gradient = value_weight_gradient(name, one, one - 1, torch.tensor([[1], [0]]), one > 0)
        speaks = name in SPEAKS_OF_ONE_DOCUMENT
        assert weight.tolist() == [float(speaks)] * 2
        # A negative scored 2: 2^2 to the label 0 and above the ceiling 0; a positive: 1^2 to the label and the teacher.
        negative = {"label_mse": 4.0, "rankdistil_b": 4.0, "pointwise_mse": 1.0, "mse_ranknet": 1.0}
        assert value.tolist() == ([1.0, negative[name]] if speaks else [0.0, 0.0])
        assert bool(gradient.any()) == speaks

    def test_no_positive(self, name: str, make_groups: Callable) -> None:
        student, teacher, label, mask = make_groups(6, 9, padded=0.0, unscored=0.0)
        value, weight, gradient = value_weight_gradient(name, student, teacher, torch.zeros_like(label), mask)
        speaks = name in SPEAKS_WITHOUT_POSITIVE
        assert bool(weight.all()) == speaks
        assert bool(weight.any()) == speaks
        assert bool(gradient.any()) == speaks
        assert bool(value.any()) == speaks

    def test_mean_weights_the_queries(self, name: str, make_groups: Callable) -> None:
        groups = make_groups(8, 5, padded=0.4, unscored=0.3)
        value_Q, weight_Q = LOSSES[name](*groups)
        assert torch.equal(weight_Q == 0, (weight_Q == 0) & (value_Q == 0))
        expected = sum(v * w for v, w in zip(value_Q.tolist(), weight_Q.tolist(), strict=True)) / sum(weight_Q.tolist())
        assert LOSSES[name].mean(*groups).item() == pytest.approx(expected, rel=1e-12)

    def test_mean_of_nothing_is_zero_and_has_a_gradient(self, name: str) -> None:
        student = torch.full((2, 3), torch.inf, requires_grad=True)
        nothing = torch.zeros(2, 3)
        LOSSES[name].mean(student, nothing, nothing, nothing.bool()).backward()
        assert torch.equal(student.grad, nothing)

    def test_stays_on_the_device_of_the_scores(self, name: str) -> None:
        """A tensor made on the CPU inside the loss cannot meet one on `meta`."""
        scores = torch.empty(4, 6, device="meta", requires_grad=True)
        LOSSES[name].mean(scores, scores.detach(), scores.detach(), scores.detach().bool()).backward()
        assert scores.grad is not None
        assert scores.grad.device.type == "meta"

    def test_bad_input_is_refused(self, name: str) -> None:
        scores = torch.ones(2, 3)
        with pytest.raises(TrainingError, match=rf"'{name}'.*\(2, 3\), \(2, 2\)"):
            LOSSES[name](scores, scores[:, :2], scores, scores.bool())
        with pytest.raises(TrainingError, match=r"mask must be bool .* not torch.float32"):
            LOSSES[name](scores, scores, scores, scores)
        with pytest.raises(TypeError, match="temprature"):
            LOSSES[name](scores, scores, scores, scores.bool(), temprature=2.0)

    def test_scale_of_the_teacher(self, name: str) -> None:
        LOSSES[name].check_scale("logit")
        with pytest.raises(RecipeError, match=r"'rank' is not one of logit, .*order"):
            LOSSES[name].check_scale("rank")
        if name in READS_MAGNITUDES:
            with pytest.raises(RecipeError, match=f"'{name}'.*only an order; use ranknet_order"):
                LOSSES[name].check_scale("order")
        else:
            LOSSES[name].check_scale("order")

    def test_is_described(self, name: str) -> None:
        loss = LOSSES[name]
        assert loss.name == name
        assert loss.needs_magnitudes == (name in READS_MAGNITUDES)
        assert loss.needs_teacher == (name in READS_MAGNITUDES | READS_ORDER)
        assert loss.needs_labels == (name not in NO_LABELS)
        assert 20 < len(loss.description) < 110
        assert "\n" not in loss.description
        assert re.search(r" et al\. 20\d\d", loss.paper)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        *(
            (name, {"temperature": 0.0}, "temperature is 0.0")
            for name in ("contrastive", "kl", "approx_ndcg", "adr_mse")
        ),
        ("kl", {"teacher_temperature": -1.0}, "temperature is -1.0"),
        ("kl", {"temperature": math.inf}, "'kl': temperature is inf, but it must be finite"),
        ("kl", {"teacher_temperature": math.nan}, "teacher_temperature is nan"),
        ("focal", {"gamma": math.inf}, "gamma is inf"),
        ("rankdistil_b", {"gamma0": math.nan}, "gamma0 is nan"),
        ("rankdistil_b", {"gamma0": -math.inf}, "gamma0 is -inf"),
        ("contrastive", {"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ("focal", {"gamma": -1.0}, "gamma is -1.0"),
        ("pointwise_mse", {"reduction": "max"}, "reduction is 'max'"),
        ("margin_mse", {"pair_reduction": "max"}, "pair_reduction is 'max'"),
        ("m3se", {"hinge_power": 3}, "hinge_power is 3"),
        ("rankdistil_b", {"hinge_power": 0}, "hinge_power is 0"),
    ],
)
def test_impossible_parameter(name: str, params: dict, message: str) -> None:
    scores = torch.ones(2, 3)
    with pytest.raises(RecipeError, match=message):
        LOSSES[name](scores, scores, scores, scores.bool(), **params)


def test_recipe_knows_the_same_losses_parameters_and_defaults() -> None:
    in_recipe = {}
    for spec in get_args(get_args(LossSpec)[0]):
        (name,) = get_args(spec.model_fields["name"].annotation)
        in_recipe[name] = {k: f.default for k, f in spec.model_fields.items() if k not in ("name", "weight")}
    assert in_recipe == {name: loss.defaults for name, loss in LOSSES.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_functions_share_the_first_four_arguments(name: str) -> None:
    parameters = list(inspect.signature(LOSSES[name].function).parameters)
    assert parameters[:4] == ["student_QK", "teacher_QK", "label_QK", "mask_QK"]
