"""Early stopping at dev evaluations, in Ray Tune's schedulers."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule

from stillhouse.search.space import SearchSpace

TIME = "training_iteration"
BRACKETS = 3


def make_scheduler(space: SearchSpace, metric_budget: int) -> Any:
    """The scheduler for trials of `metric_budget` dev evaluations each.

    No rung is set at the last evaluation: nothing would be saved by stopping there, and the trial could not end
    its work. `hyperband` is asha with three brackets, which start their halving at later and later rungs.
    """
    spec = space.scheduler
    last_rung = metric_budget - 1
    if spec.name == "none" or last_rung < spec.grace:
        return FIFOScheduler()
    judged: dict[str, Any] = {"time_attr": TIME, "metric": space.metrics[0], "mode": space.modes[0]}
    if spec.name == "median":
        return MedianStoppingRule(**judged, grace_period=spec.grace, min_samples_required=3)
    return AsyncHyperBandScheduler(
        **judged,
        grace_period=spec.grace,
        max_t=last_rung,
        reduction_factor=spec.reduction_factor,
        brackets=BRACKETS if spec.name == "hyperband" else 1,
        stop_last_trials=False,
    )
