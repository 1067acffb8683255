"""What a kill left RUNNING in MLflow is closed by the next `tune` and `doctor`; `ui` is looked at in test_ui."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli import checks
from stillhouse.recipe.text import to_yaml
from tests.contracts.left_open import leave_open, status_of


def test_by_tune_even_one_that_comes_to_nothing(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_template: Callable[[Path], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = mlflow_template(tmp_path)
    run = leave_open(uri, "killed")
    recipe = {
        "name": "toy",
        "output": {"path": "out"},
        "collection": dict.fromkeys(("train", "dev", "test"), str(tmp_path / "nothing")),
        "student": {"ranker": "dual_encoder", "backbone": "none"},
        "stages": {"label": {"loss": {"name": "contrastive"}}},
        "tracking": {"uri": uri, "experiment": "toy"},
    }
    (tmp_path / "toy.yaml").write_text(to_yaml(recipe))
    (tmp_path / "space.yaml").write_text(
        to_yaml({"space": {"stages.label.optimizer.learning_rate": {"choice": [1e-4, 1e-3]}}})
    )
    assert status_of(uri, run) == "RUNNING"
    done = call("tune", "toy.yaml", "--space", "space.yaml")
    assert done.status == 1
    assert str(tmp_path / "nothing") in done.err
    assert status_of(uri, run) == "KILLED"


def test_by_doctor(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_template: Callable[[Path], str]
) -> None:
    uri = mlflow_template(tmp_path)
    run = leave_open(uri, "killed")
    # What else doctor looks at is of the machine, and starts Ray.
    for name in ("python", "packages", "devices", "disk", "memory"):
        monkeypatch.setattr(checks, name, lambda: iter([]))
    monkeypatch.setattr(checks, "ray_starts", lambda verbose: iter([]))
    done = call("doctor", "--tracking", uri)
    assert done.status == 0
    assert "closed 1 runs that a kill had left open" in " ".join(done.out.split())
    assert status_of(uri, run) == "KILLED"
