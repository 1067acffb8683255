"""Unlabelled positives among the negatives: those that the teacher scores too close to the positive are left out."""

from __future__ import annotations

import math

import numpy as np

from stillhouse.recipe.groups import GroupsSpec


def highest_allowed(positive: float, spec: GroupsSpec) -> float:
    """The highest teacher score a negative may have beside a positive of this score; inf where nothing is known.

    `absolute`: positive - margin; `relative`: positive * margin (TopK-MarginPos and TopK-PercPos of NV-Retriever,
    Moreira et al. 2024, arXiv:2407.15831). A fraction of a score that is not above 0 means nothing: the positive itself
    is the bound there, which is also what `relative` tends to as the score falls to 0.
    """
    margin = spec.false_negative_margin
    if margin is None or math.isnan(positive):
        return math.inf
    if spec.false_negative_margin_kind == "absolute":
        return positive - margin
    return positive * margin if positive > 0 else positive


def allowed(scores: np.ndarray, positive: float, spec: GroupsSpec) -> np.ndarray:
    """Bool of the shape of `scores`: False where one exceeds the bound. NaN (not scored) is allowed."""
    return ~(scores > highest_allowed(positive, spec))
