"""The keys of a search: which space, what is kept of it, how its winner is confirmed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from stillhouse.recipe.base import Count, Spec


class SearchSpec(Spec):
    """The search that `stillhouse run` makes before it trains the winner."""

    space: str = "temperature_negatives_lr"
    """Name or path of a search space."""
    trials: Count | None = None
    """None uses the space's own number."""
    overrides: dict[str, Any] = {}
    """Dotted overrides of the recipe that hold in trials only, e.g. a smaller `max_steps`."""
    keep_models: Annotated[int, Field(ge=0)] = 3
    """The best finished trials that keep their checkpoint and ranker, and whose rankers go to MLflow."""
    keep_models_mib: Annotated[float, Field(gt=0)] = 2048
    """Most MiB of trials' rankers in MLflow, best first; what does not fit is named. The registered one is extra."""
    confirm_seeds: Annotated[int, Field(ge=0)] = 0
    """Train the best values and the recipe's own with this many seeds each and compare them on test; 0 does not."""
