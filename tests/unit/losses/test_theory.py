"""What the papers prove about these losses, and the rule for ties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stillhouse.losses import LOSSES


def gradient(name: str, student: Tensor, teacher: Tensor, label: Tensor, **params: object) -> Tensor:
    student = student.clone().requires_grad_()
    LOSSES[name].mean(student, teacher, label, torch.ones_like(label, dtype=torch.bool), **params).backward()
    assert student.grad is not None
    return student.grad


def tensors(*rows: list[float]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor([row], dtype=torch.float64) for row in rows)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    # T (sigmoid(-.6 / T) - sigmoid(2.1 / T)), which goes to 2 (-.6 - 2.1) / 8 = -.675.
    [(1.0, -0.53656), (10.0, -0.67303), (100.0, -0.67498), (1e4, -0.675)],
)
@pytest.mark.parametrize("name", ["softmax_ce", "kl"])
def test_softmax_losses_become_an_eighth_of_margin_mse(name: str, temperature: float, expected: float) -> None:
    """Menon et al. 2022, Prop. 3."""
    student, teacher, label = tensors([0.3, 0.9], [1.7, -0.4], [1.0, 0.0])
    softened = gradient(name, student, teacher, label, temperature=temperature)
    assert softened.tolist() == [pytest.approx([expected, -expected], abs=1e-5)]
    if temperature == 1e4:
        eighth = gradient("margin_mse", student, teacher, label) / 8
        torch.testing.assert_close(softened, eighth, rtol=1e-6, atol=0)


def test_ce_and_kl_differ_by_the_teacher_entropy(make_groups: Callable) -> None:
    groups = make_groups(5, 8, padded=0.0, unscored=0.0)
    ce_Q, _ = LOSSES["softmax_ce"](*groups, temperature=3.0, scale_by_temperature_squared=False)
    kl_Q, _ = LOSSES["kl"](*groups, temperature=3.0, scale_by_temperature_squared=False)
    entropy_Q = torch.distributions.Categorical(logits=groups[1] / 3).entropy()
    torch.testing.assert_close(ce_Q - kl_Q, entropy_Q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hinge_power", [1, 2])
def test_m3se_of_a_pair_is_margin_mse(hinge_power: int, make_groups: Callable) -> None:
    student, teacher, label, mask = make_groups(20, 2, padded=0.0, unscored=0.0)
    label[:, 1] = 0
    for mixed in (label, label.flip(-1)):
        m3se_Q, _ = LOSSES["m3se"](student, teacher, mixed, mask, hinge_power=hinge_power)
        torch.testing.assert_close(m3se_Q, LOSSES["margin_mse"](student, teacher, mixed, mask)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["kl", "pointwise_mse", "margin_mse"])
def test_nothing_left_to_learn_from_an_equal_teacher(name: str, make_groups: Callable) -> None:
    student, _, label, mask = make_groups(5, 8, padded=0.0)
    value_Q, weight_Q = LOSSES[name](student, student, label, mask)
    assert not value_Q.any()
    assert weight_Q.all()
    assert gradient(name, student, student, label).abs().max() < 1e-15


def test_gradient_of_kl_matches_probabilities() -> None:
    """d/ds of T^2 KL is T (softmax(s / T) - softmax(t / T))."""
    student, teacher, label = tensors([1.0, 0.0, -2.0], [0.5, 2.0, 1.0], [1.0, 0.0, 0.0])
    expected = 2 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1))
    torch.testing.assert_close(gradient("kl", student, teacher, label, temperature=2.0), expected)


def test_focal_with_gamma_0_is_contrastive_and_stays_finite_when_solved(make_groups: Callable) -> None:
    groups = make_groups(6, 9)
    torch.testing.assert_close(LOSSES["focal"](*groups, gamma=0.0)[0], LOSSES["contrastive"](*groups)[0])
    student, teacher, label = tensors([500.0, 0.0], [0.0, 0.0], [1.0, 0.0])
    assert gradient("focal", student, teacher, label, gamma=0.5).isfinite().all()


def test_positives_share_the_target_whatever_their_grade() -> None:
    student, teacher, label = tensors([1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 1.0, 0.0])
    log_p = student.log_softmax(-1)[0]
    expected = -(log_p[0] + log_p[1]) / 2
    assert LOSSES["contrastive"].mean(student, teacher, label, label >= 0).item() == pytest.approx(expected.item())


class TestTies:
    """Of documents tied at the teacher the one with the highest student score stands first, wherever its slot is."""

    def test_m3se(self) -> None:
        # Negatives 1 and 2 tie at 2: j* is document 2. (3 - 2 - (1 - 0.5))^2 = .25; document 1 is below j*: no hinge.
        student, teacher, label = tensors([1.0, -1.0, 0.5, 0.0], [3.0, 2.0, 2.0, 0.0], [1.0, 0.0, 0.0, 0.0])
        mask = label >= 0
        assert LOSSES["m3se"].mean(student, teacher, label, mask).item() == 0.25
        # d/ds_0 = -2 (.5) and j* takes the opposite.
        assert gradient("m3se", student, teacher, label).tolist() == [[-1.0, 0.0, 1.0, 0.0]]

    def test_listmle(self) -> None:
        # Teacher's ranking: document 2, then the tied 1 (student 1) before 0 (student 0).
        student, teacher, label = tensors([0.0, 1.0, 2.0], [1.0, 1.0, 5.0], [1.0, 0.0, 0.0])
        e = math.e
        expected = -math.log(e**2 / (e**2 + e + 1)) - math.log(e / (e + 1))
        assert LOSSES["listmle"].mean(student, teacher, label, label >= 0).item() == pytest.approx(expected)

    def test_adr_mse(self) -> None:
        # Smooth ranks at temperature 1e-3 are 3, 2, 1, and so are the teacher's with the tie broken.
        student, teacher, label = tensors([0.0, 1.0, 2.0], [1.0, 1.0, 5.0], [1.0, 0.0, 0.0])
        assert LOSSES["adr_mse"].mean(student, teacher, label, label >= 0, temperature=1e-3).item() == 0.0

    @pytest.mark.parametrize("name", ["ranknet_order", "ranknet_rank_weighted"])
    def test_no_pair_between_tied_documents(self, name: str) -> None:
        student, teacher, label = tensors([0.0, 1.0, 2.0], [1.0, 1.0, 5.0], [1.0, 0.0, 0.0])
        _, weight_Q = LOSSES[name](student, teacher, label, label >= 0)
        assert weight_Q.tolist() == [2.0]

    @pytest.mark.parametrize("turned", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    def test_lambda_rank_puts_a_tied_positive_last(self, turned: list[int]) -> None:
        # Ranks: negatives 1 and 2, positive 3. |1/log2(4) - 1/log2(2)| + |1/log2(4) - 1/log2(3)|, times ln 2.
        student, teacher, label = tensors([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0])
        expected = math.log(2) * ((1 - 0.5) + (1 / math.log2(3) - 0.5))
        value = LOSSES["lambda_rank"].mean(student, teacher, label[:, turned], label >= 0)
        assert value.item() == pytest.approx(expected)

    def test_ranknet_rank_weighted_puts_the_tied_worse_document_first(self) -> None:
        # Two documents always have ranks 1 and 2; three tied ones have 3, 2, 1: ln 2 (1/5 + 1/4 + 1/3) / 3.
        student, teacher, label = tensors([0.0, 0.0, 0.0], [3.0, 2.0, 1.0], [1.0, 0.0, 0.0])
        expected = math.log(2) * (1 / 5 + 1 / 4 + 1 / 3) / 3
        assert LOSSES["ranknet_rank_weighted"].mean(student, teacher, label, label >= 0).item() == pytest.approx(
            expected
        )
