"""The record of runs: MLflow, or none. Only this package talks to MLflow, and only the driver calls it."""

from __future__ import annotations

from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking.base import Dataset, NullTracker, Point, Tracker, metric_key
from stillhouse.tracking.mlflow_tracker import MlflowTracker, absolute_uri
from stillhouse.tracking.newest import newest_places
from stillhouse.tracking.queued import QueuedTracker
from stillhouse.tracking.stale import close_stale

__all__ = [
    "Dataset",
    "MlflowTracker",
    "NullTracker",
    "Point",
    "QueuedTracker",
    "Tracker",
    "close_stale",
    "metric_key",
    "newest_places",
    "open_tracker",
    "tracking_spec",
]


def open_tracker(spec: TrackingSpec) -> Tracker:
    """The tracker a recipe asks for; `uri: none` records nothing."""
    return NullTracker() if spec.uri == "none" else MlflowTracker(spec.uri, spec.experiment)


def tracking_spec(uri: str) -> TrackingSpec:
    """The default experiment of a store. TrackingError for an address that holds a login."""
    absolute_uri(uri)
    return TrackingSpec(uri=uri)
