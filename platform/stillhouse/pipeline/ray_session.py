"""Connect to the cluster that is there, or start a small one on this machine; quiet unless asked."""

from __future__ import annotations

import logging
import os


def connect(verbose: bool) -> dict[str, float]:
    """The resources of the cluster at RAY_ADDRESS, or of one started here; a second call uses the same one."""
    import ray

    if not ray.is_initialized():
        _quiet(verbose)
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=verbose, logging_level=_level(verbose))
        else:
            ray.init(
                # One CPU is too few for actors and what feeds them; otherwise Ray counts, within a container's limits.
                num_cpus=2 if os.cpu_count() == 1 else None,
                # Nested trainers leak their placement groups without the State API, which the dashboard serves.
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                log_to_driver=verbose,
                logging_level=_level(verbose),
                object_store_memory=500_000_000,
            )
    return dict(ray.cluster_resources())


def disconnect() -> None:
    """Leave the cluster; one that was started here stops."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def _level(verbose: bool) -> int:
    return logging.INFO if verbose else logging.ERROR


def _quiet(verbose: bool) -> None:
    """Settings that Ray reads at start; the user's own come first."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Nobody takes this machine away from a cluster that was started for one command.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1" if os.environ.get("RAY_ADDRESS") else "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not verbose:
        for name in ("ray", "ray.data", "ray.train", "ray.tune"):
            logging.getLogger(name).setLevel(logging.ERROR)
