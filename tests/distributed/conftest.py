"""A training at toy size that every test here can change."""

from __future__ import annotations

import pytest

from stillhouse.training.job import TrainingJob
from tests.contracts.training_jobs import STAGE, toy_job


@pytest.fixture(scope="session")
def job(toy, toy_candidates, workspace, backbone, tmp_path_factory) -> TrainingJob:
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.parquet"
    return toy_job(toy, workspace, backbone, {"distill": STAGE}, teacher=teacher)
