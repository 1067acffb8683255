"""What may be drawn for one key of a search space: a range of numbers, or a choice."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from stillhouse.recipe.base import Spec


class _Dimension(Spec):
    when: dict[str, Any] = Field(default={})
    """Draw this key only where other keys have these values; a list means any of them."""


class FloatRange(_Dimension):
    """A real number between two ends, both possible."""

    bounds: tuple[float, float] = Field(alias="float")
    """The two ends."""
    log: bool = False
    """Uniform in the logarithm."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance between the values that can be drawn; None draws any."""

    @model_validator(mode="after")
    def _is_possible(self) -> FloatRange:
        _check_range(*self.bounds, self.log, self.step)
        return self

    def ends(self) -> list[Any]:
        """Values between which all others lie."""
        return list(self.bounds)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.bounds[0] <= value <= self.bounds[1] and _on_step(value - self.bounds[0], self.step)


class IntRange(_Dimension):
    """A whole number between two ends, both possible."""

    bounds: tuple[int, int] = Field(alias="int")
    """The two ends."""
    log: bool = False
    """Uniform in the logarithm."""
    step: Annotated[int, Field(ge=1)] | None = None
    """Distance between the values that can be drawn."""

    @model_validator(mode="after")
    def _is_possible(self) -> IntRange:
        _check_range(*self.bounds, self.log, self.step)
        return self

    def ends(self) -> list[Any]:
        """Values between which all others lie."""
        return list(self.bounds)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.bounds[0] <= value <= self.bounds[1] and _on_step(value - self.bounds[0], self.step)


class Choice(_Dimension):
    """One of the values given: numbers, strings, or whole mappings of the recipe."""

    choice: Annotated[tuple[Any, ...], Field(min_length=1)]
    """The values; a whole mapping may be one of them."""

    @field_validator("choice")
    @classmethod
    def _has_no_twins(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        texts = [json.dumps(value) for value in values]
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"the choice {text} stands twice")
        return values

    def ends(self) -> list[Any]:
        """All values."""
        return list(self.choice)

    def has(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        return any(value == one and type(value) is type(one) for one in self.choice)


SHAPES: dict[str, type[FloatRange | IntRange | Choice]] = {"float": FloatRange, "int": IntRange, "choice": Choice}


def kind_of(value: Any) -> str | None:
    """Which shape a value means to be; None for none of them."""
    if isinstance(value, dict):
        return next((kind for kind in SHAPES if kind in value), None)
    return next((kind for kind, shape in SHAPES.items() if isinstance(value, shape)), None)


Dimension = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")] | Annotated[Choice, Tag("choice")],
    Discriminator(
        kind_of,
        custom_error_type="kind",
        custom_error_message="expected one of {float: [lo, hi]}, {int: [lo, hi]}, {choice: [...]}",
    ),
]


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"impossible range [{low}, {high}]: the first end must be below the second")
    if log and low <= 0:
        raise ValueError(f"log: true needs a range above 0, found [{low}, {high}]")
    if log and step is not None:
        raise ValueError("log and step cannot be combined; leave one out")
    if step is not None and not _on_step(high - low, step):
        raise ValueError(f"the range [{low}, {high}] is not a whole number of steps of {step}")


def _on_step(distance: float, step: float | None) -> bool:
    if step is None:
        return True
    return math.isclose(distance / step, round(distance / step), abs_tol=1e-9)
