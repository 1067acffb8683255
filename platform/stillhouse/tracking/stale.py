"""Closing what a kill left open."""

from __future__ import annotations

import time

from stillhouse.errors import TrackingError
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking.mlflow_tracker import HEARTBEAT, PROCESS, absolute_uri, database, first_line, open_client
from stillhouse.tracking.process import is_gone

STALE_S = 600.0


def close_stale(spec: TrackingSpec, limit_s: float = STALE_S) -> list[str]:
    """Close as KILLED each RUNNING run of ours whose process is gone or whose heartbeat is older than `limit_s`.

    Returns the ids of the closed runs. Runs that other programs opened are left alone.
    """
    uri = absolute_uri(spec.uri)
    file = database(uri)
    if spec.uri == "none" or (file is not None and not file.exists()):
        return []
    try:
        client = open_client(uri)
        experiments = [one.experiment_id for one in client.search_experiments()]
        running = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=5000)
        closed = []
        for run in running:
            process, beat = run.data.tags.get(PROCESS), run.data.tags.get(HEARTBEAT)
            if process and beat and (is_gone(process) or time.time() - float(beat) > limit_s):
                client.set_terminated(run.info.run_id, "KILLED", end_time=int(float(beat) * 1000))
                closed.append(str(run.info.run_id))
        return closed
    except Exception as error:
        raise TrackingError(f"MLflow at {uri}: {first_line(error)}; check tracking.uri") from error
