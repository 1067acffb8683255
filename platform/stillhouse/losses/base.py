"""What every loss is: a function of scores, with what it reads and where it comes from."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stillhouse.errors import RecipeError, TrainingError
from stillhouse.losses.masking import clean

PerQuery = tuple[Tensor, Tensor]
"""Value and weight, both [Q]."""

SCALES = ("logit", "probability", "grade", "order")
"""What the scores of a teacher can be."""


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss:
    """A loss on something else than scores, beside one that reads them: its function's own arguments."""

    function: Callable[..., PerQuery]
    description: str
    """One line."""
    paper: str
    """Where it is printed."""

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, *tensors: Tensor) -> PerQuery:
        return self.function(*tensors)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss over groups: one query with K documents each.

    `function` gets tensors that are already clean (see `masking.clean`), so it holds only the formula.
    """

    function: Callable[..., PerQuery]
    description: str
    """One line."""
    paper: str
    """Where the formula is printed."""
    needs_labels: bool
    needs_teacher: bool
    """Reads teacher scores: slots without one are dropped."""
    needs_magnitudes: bool
    """Reads more of the teacher than its order."""

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def defaults(self) -> dict[str, Any]:
        """Parameter name -> default value."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def __call__(
        self, student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, **params: Any
    ) -> PerQuery:
        """Value and weight of each query, both [Q], float32 or wider.

        `teacher_QK` is a constant, NaN = not scored. `label_QK` holds grades, above 0 = positive. `mask_QK` is bool,
        False = padding, where the other three may hold anything. A query with nothing to say has value 0, weight 0.
        """
        self._check(student_QK, teacher_QK, label_QK, mask_QK)
        for name, value in params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RecipeError(f"loss {self.name!r}: {name} is {value}, but it must be finite")
        return self.function(*clean(student_QK, teacher_QK, label_QK, mask_QK, scored=self.needs_teacher), **params)

    def mean(self, student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor, **params: Any) -> Tensor:
        """Weighted mean over the queries, a scalar; 0 if none of them has anything to say."""
        value_Q, weight_Q = self(student_QK, teacher_QK, label_QK, mask_QK, **params)
        total = weight_Q.sum()
        return (value_Q * weight_Q).sum() / torch.where(total > 0, total, 1.0)

    def check_scale(self, scale: str) -> None:
        """Raise RecipeError if teacher scores of this scale (one of SCALES) are no use."""
        if scale not in SCALES:
            raise RecipeError(f"teacher scale {scale!r} is not one of {', '.join(SCALES)}")
        if self.needs_magnitudes and scale == "order":
            raise RecipeError(
                f"loss {self.name!r} reads how far apart teacher scores are, but this teacher gives only an order; "
                "use ranknet_order, ranknet_rank_weighted, listmle or adr_mse"
            )

    def _check(self, student_QK: Tensor, teacher_QK: Tensor, label_QK: Tensor, mask_QK: Tensor) -> None:
        shapes = [tuple(tensor.shape) for tensor in (student_QK, teacher_QK, label_QK, mask_QK)]
        if student_QK.dim() != 2 or len(set(shapes)) > 1:
            raise TrainingError(
                f"loss {self.name!r}: student, teacher, label and mask must share one shape [Q, K], not {shapes}"
            )
        if mask_QK.dtype != torch.bool:
            raise TrainingError(f"loss {self.name!r}: mask must be bool (True = real document), not {mask_QK.dtype}")
