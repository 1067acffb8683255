"""What a group of scores says about a training run: numbers that are logged and never trained on.

Every number is a sum and a count, so that steps and ranks are added before the one division.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stillhouse.losses import LOSSES
from stillhouse.losses.masking import clean, positive_negative_pairs, positives_negatives, preferred_pairs
from stillhouse.losses.softmax import probabilities

Sums = dict[str, tuple[float, float]]
"""Name -> (sum, count)."""

SATURATED = 0.999
"""A teacher softmax above this at one document teaches little more than a label."""
MAX_SATURATED_SHARE = 0.5
MIN_SCORE_VARIANCE = 1e-6
MAX_DOCUMENTS = 128
"""Per query; numbers over pairs grow with its square, and a batch of negatives can have thousands."""


@torch.no_grad()
def diagnose(student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> Sums:
    """Sum and count of each number below, at temperature 1; arguments as for a loss. One transfer from the device.

    - `ce`, `kl`: cross-entropy and KL divergence from the teacher, per query with two scored documents; no T^2.
    - `teacher_pairwise_accuracy`: pairs of a scored positive and negative that the teacher orders so; a tie is not.
    - `positive_score`, `negative_score`: student score per document (Hofstaetter et al. 2020, Fig. 1).
    - `score_range`: highest minus lowest student score, per query with two documents.
    - `normalised_margin`: mean positive minus mean negative score over that range, per query with both and a range
      above 0 (Menon et al. 2022, Fig. 2).
    - `saturated_teacher`: queries whose teacher softmax exceeds 0.999 at one document, of those with two scored.
    - `score_variance`: of the student's scores across K, per query with two documents.

    Of more than 128 documents of a query the positives count and the first others.
    """
    if mask_QK.shape[1] > MAX_DOCUMENTS:
        rank_QK = torch.where(mask_QK, (label_QK <= 0).long(), 2)
        kept_QK = rank_QK.argsort(dim=-1, stable=True)[:, :MAX_DOCUMENTS]
        student_QK, teacher_QK, label_QK, mask_QK = (
            values.gather(1, kept_QK) for values in (student_QK, teacher_QK, label_QK, mask_QK)
        )
    of_teacher = clean(student_QK, teacher_QK, label_QK, mask_QK, scored=True)
    found = {name: LOSSES[loss](*of_teacher) for name, loss in (("ce", "softmax_ce"), ("kl", "kl"))}
    found |= _teacher(*of_teacher[1:])
    of_all = clean(student_QK, teacher_QK, label_QK, mask_QK, scored=False)
    found |= _student(of_all[0], *of_all[2:])
    dtype = of_all[0].dtype
    sums = torch.stack(
        [torch.stack([values.sum().to(dtype), counts.sum().to(dtype)]) for values, counts in found.values()]
    )
    return {name: (total, count) for name, (total, count) in zip(found, sums.tolist(), strict=True)}


def merge(parts: Iterable[Mapping[str, tuple[float, float]]]) -> Sums:
    """Sums and counts added, name by name: over steps, or over ranks."""
    merged: Sums = {}
    for part in parts:
        for name, (total, count) in part.items():
            so_far = merged.get(name, (0.0, 0.0))
            merged[name] = (so_far[0] + total, so_far[1] + count)
    return merged


def means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Sum over count; a name that nothing was counted for is left out."""
    return {name: total / count for name, (total, count) in sums.items() if count > 0}


def alarms(mean: Mapping[str, float]) -> list[str]:
    """One line for each of the means that says the run teaches nothing."""
    lines = []
    if mean.get("saturated_teacher", 0.0) > MAX_SATURATED_SHARE:
        lines.append(
            f"teacher softmax is above {SATURATED} at one document in {mean['saturated_teacher']:.0%} of the queries: "
            "little more than a label; raise the loss's teacher_temperature"
        )
    if mean.get("score_variance", 1.0) < MIN_SCORE_VARIANCE:
        lines.append(
            f"student scores vary by only {mean['score_variance']:.1e} within a query: it has collapsed; "
            "lower the learning rate or take a loss that is invariant to shifts"
        )
    return lines


def _teacher(teacher_QK: Tensor, label_QK: Tensor, scored_QK: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    pair_QKK = positive_negative_pairs(label_QK, scored_QK)
    several_Q = scored_QK.sum(-1) > 1
    highest_Q = probabilities(teacher_QK, scored_QK).amax(-1)
    return {
        "teacher_pairwise_accuracy": (pair_QKK & preferred_pairs(teacher_QK, scored_QK), pair_QKK),
        "saturated_teacher": (several_Q & (highest_Q > SATURATED), several_Q),
    }


def _student(student_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    positive_QK, negative_QK = positives_negatives(label_QK, mask_QK)
    several_Q = mask_QK.sum(-1) > 1
    highest_Q = torch.where(mask_QK, student_QK, -torch.inf).amax(-1)
    lowest_Q = torch.where(mask_QK, student_QK, torch.inf).amin(-1)
    range_Q = torch.where(several_Q, highest_Q - lowest_Q, 0.0)
    has_margin_Q = positive_QK.any(-1) & negative_QK.any(-1) & (range_Q > 0)
    margin_Q = _mean(student_QK, positive_QK) - _mean(student_QK, negative_QK)
    normalised_Q = torch.where(has_margin_Q, margin_Q, 0.0) / torch.where(has_margin_Q, range_Q, 1.0)
    variance_Q = _mean((student_QK - _mean(student_QK, mask_QK)[:, None]).square(), mask_QK)
    return {
        "positive_score": (torch.where(positive_QK, student_QK, 0.0), positive_QK),
        "negative_score": (torch.where(negative_QK, student_QK, 0.0), negative_QK),
        "score_range": (range_Q, several_Q),
        "normalised_margin": (normalised_Q, has_margin_Q),
        "score_variance": (torch.where(several_Q, variance_Q, 0.0), several_Q),
    }


def _mean(values_QK: Tensor, where_QK: Tensor) -> Tensor:
    return torch.where(where_QK, values_QK, 0.0).sum(-1) / where_QK.sum(-1).clamp(min=1)
