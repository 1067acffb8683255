"""Cross-entropy against the teacher's softened distribution."""

from __future__ import annotations

from torch import Tensor

from stillhouse.losses.base import Loss, PerQuery
from stillhouse.losses.masking import speak
from stillhouse.losses.softmax import log_probabilities, probabilities


def softmax_ce(
    student_QK: Tensor,
    teacher_QK: Tensor,
    label_QK: Tensor,
    mask_QK: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    scale_by_temperature_squared: bool = True,
) -> PerQuery:
    """-sum_k softmax(t / T_t)_k log softmax(s / T)_k, times T^2 unless switched off; T_t is T unless given."""
    target_QK = probabilities(teacher_QK, mask_QK, temperature if teacher_temperature is None else teacher_temperature)
    value_Q = -(target_QK * log_probabilities(student_QK, mask_QK, temperature)).sum(-1)
    if scale_by_temperature_squared:
        value_Q = value_Q * temperature**2
    return speak(value_Q, mask_QK.sum(-1) > 1)


LOSS = Loss(
    function=softmax_ce,
    description="cross-entropy between the teacher's and the student's softmax (the gradient of kl)",
    paper="Menon et al. 2022, Eq. 1 and Sec. 4.2",
    needs_labels=False,
    needs_teacher=True,
    needs_magnitudes=True,
)
