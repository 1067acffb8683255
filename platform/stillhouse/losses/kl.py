"""Kullback-Leibler divergence from the student's to the teacher's softened distribution."""

from __future__ import annotations

from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.softmax import log_probabilities


def kl(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    scale_by_temperature_squared: bool = True,
) -> PerQuery:
    """KL(softmax(t / T_t) || softmax(s / T)), times T^2 unless switched off; T_t is T unless given."""
    of_teacher = temperature if teacher_temperature is None else teacher_temperature
    log_target_QK = log_probabilities(teacher_QK, mask_QK, of_teacher)
    log_p_QK = log_probabilities(student_QK, mask_QK, temperature)
    # Where mask is False both logs are 0, so the term is 0 although exp(0) is 1.
    value_Q = (log_target_QK.exp() * (log_target_QK - log_p_QK)).sum(-1)
    if scale_by_temperature_squared:
        value_Q = value_Q * temperature**2
    return speak(value_Q, mask_QK.sum(-1) > 1)


LOSS = Loss(
    function=kl,
    description="KL divergence of the student's softmax from the teacher's, softened by a temperature",
    paper="Xu et al. 2025; Hinton et al. 2015 (T^2); Menon et al. 2022, Tab. 4",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=True,
)
