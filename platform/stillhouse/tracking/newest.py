"""Where to look first in a store."""

from __future__ import annotations

from stillhouse.errors import TrackingError
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking.mlflow_tracker import absolute_uri, database, first_line, open_client
from stillhouse.tracking.views import newest_view, runs_address, view_address


def newest_places(spec: TrackingSpec) -> list[tuple[str, str]]:
    """The experiment that changed last, and the newest search: names, and addresses after the server's own.

    TrackingError if the store does not answer.
    """
    uri = absolute_uri(spec.uri)
    file = database(uri)
    if spec.uri == "none" or (file is not None and not file.exists()):
        return []
    try:
        # MLflow's own experiment 0 holds nothing of ours.
        experiments = [one for one in open_client(uri).search_experiments() if one.experiment_id != "0"]
    except Exception as error:
        raise TrackingError(f"MLflow at {uri}: {first_line(error)}; check tracking.uri") from error
    if not experiments:
        return []
    last = max(experiments, key=lambda one: one.last_update_time or 0)
    places = [(f"Runs of {last.name}", runs_address(last.experiment_id))]
    views = [(*view, one.experiment_id) for one in experiments if (view := newest_view(one.tags)) is not None]
    if views:
        _, key, name, experiment_id = max(views)
        places.append((f"{name}, its trials side by side", view_address(experiment_id, key, charts=True)))
    return places
