"""A run as a kill leaves it: RUNNING, of a process that is gone."""

from __future__ import annotations

from stillhouse.tracking import MlflowTracker
from stillhouse.tracking.mlflow_tracker import PROCESS, open_client
from stillhouse.tracking.process import this_process


def leave_open(uri: str, name: str) -> str:
    """The id of the run. Its process has the number of this one, but began earlier: such a process is no more."""
    run = MlflowTracker(uri, "toy").run(name, name)
    host, pid, start = this_process().rsplit(":", 2)
    open_client(uri).set_tag(run, PROCESS, f"{host}:{pid}:{int(start) - 1000}")
    return run


def status_of(uri: str, run: str) -> str:
    return str(open_client(uri).get_run(run).info.status)
