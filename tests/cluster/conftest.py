"""One small cluster for the whole session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import stillhouse


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two CPUs, no dashboard; workers import stillhouse from where the tests do."""
    os.environ["PYTHONPATH"] = str(Path(stillhouse.__file__).parents[1])
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()
