"""The hinge of the RankDistil family."""

from __future__ import annotations

from torch import Tensor

from stillhouse.errors import RecipeError


def hinge(x: Tensor, power: int) -> Tensor:
    """max(x, 0) to the power 1 or 2; the gradient at 0 is 0."""
    if power not in (1, 2):
        raise RecipeError(f"hinge_power is {power}, but only 1 and 2 are known")
    return x.relu() if power == 1 else x.relu().square()
