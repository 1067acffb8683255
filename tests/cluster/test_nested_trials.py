"""`stillhouse tune` with trials of two workers each: its driver is killed, `--resume` goes on, the scheduler stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from stillhouse.tracking.mlflow_tracker import open_client
from stillhouse.training.curve import read_points
from tests.cluster.ray_nodes import PATIENCE_S, node_environment, wait_for
from tests.contracts.recorded_recipe import recorded_recipe

RATE = "stages.label.optimizer.learning_rate"
# The first changes nothing. The others learn the twelve queries by heart and get worse on dev, so successive halving
# stops them at their first evaluation.
RATES = [1e-9, 3e-3, 4e-3]
EPOCHS, STEPS = 120, 240
"""12 queries in steps of 6; half of the steps come before the first evaluation."""
SPACE = {
    "space": {RATE: {"choice": RATES}},
    "start": [{RATE: rate} for rate in RATES],
    "sampler": "grid",
    "scheduler": {"name": "asha", "grace": 1, "reduction_factor": 4},
    "trials": 3,
}


def test_a_killed_search_goes_on_and_stopped_trials_leave_their_workers_places(
    collection_folder: Path, backbone: Path, tmp_path: Path, mlflow_template: Callable[[Path], str]
) -> None:
    uri = mlflow_template(tmp_path)
    recipe = recorded_recipe(
        collection_folder,
        backbone,
        uri,
        search={"space": str(tmp_path / "space.yaml"), "keep_models": 1},
        scale={"dtype": "float32", "num_workers": 2},
    )
    tree = recipe.model_dump(mode="json", exclude_unset=True)
    tree["stages"]["label"] |= {"epochs": EPOCHS}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    home = tmp_path / "home"

    def tune(*options: str) -> subprocess.Popen[str]:
        with (tmp_path / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "stillhouse", "tune", "toy.yaml", *options],
                cwd=tmp_path,
                env=node_environment({"STILLHOUSE_HOME": str(home)}),
                stdout=log,
                stderr=log,
                text=True,
            )

    def curves() -> dict[str, list[dict]]:
        return {path.parts[-3]: read_points(path) for path in home.glob("trials/*/checkpoints/curve.jsonl")}

    driver = tune()

    def first_has_ended() -> bool:
        assert driver.poll() is None, (tmp_path / "log.txt").read_text()
        return len(list(home.glob("studies/*/trials/*.json"))) == 1

    wait_for(first_has_ended)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    (first,) = home.glob("studies/*/trials/*.json")
    kept = json.loads(first.read_text())
    assert (kept["state"], kept["values"]) == ("FINISHED", {RATE: RATES[0]})
    steps = curves()[kept["key"]]
    assert len(steps) == STEPS

    driver = tune("--resume")
    assert driver.wait(timeout=PATIENCE_S) == 0, (tmp_path / "log.txt").read_text()
    trials = [json.loads(path.read_text()) for path in home.glob("studies/*/trials/*.json")]
    trials.sort(key=lambda trial: trial["number"])
    assert [(trial["state"], trial["values"][RATE]) for trial in trials] == [
        ("FINISHED", RATES[0]),
        ("PRUNED", RATES[1]),
        ("PRUNED", RATES[2]),
    ]
    assert trials[0]["metrics"] == kept["metrics"]
    for trial in trials[1:]:
        # The workers of a stopped trial have made no second evaluation, and the next trial had their places.
        (report,) = trial["reports"]
        assert report["step"] == STEPS // 2
    runs = search_runs(uri)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["trial_state"] for run in children) == ["FINISHED", "PRUNED", "PRUNED"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    # Only the best keeps what it trained.
    assert set(curves()) == {kept["key"]}
    assert curves()[kept["key"]] == steps


def search_runs(uri: str) -> list:
    client = open_client(uri)
    return client.search_runs([client.get_experiment_by_name("toy").experiment_id])
