"""A search whose trials run on two nodes, of which one is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.ray_nodes import PATIENCE_S, Cluster, wait_for
from tests.cluster.study_driver import EVALUATIONS, TEMPERATURE, curve

DRIVER = Path(__file__).with_name("study_driver.py")


def under_way(root: Path) -> list[str]:
    """Trials that have reported and not ended."""
    ended = {path.stem for path in root.glob("studies/*/trials/*.json")}
    reported = [path.parent.name for path in root.glob("trials/*/reports.jsonl") if path.stat().st_size]
    return [key for key in reported if key not in ended]


def test_the_trial_of_a_lost_node_goes_on_from_its_checkpoint_and_no_other_is_touched(
    nodes: Cluster, tmp_path: Path
) -> None:
    _, lost = nodes.ready(2)
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, DRIVER, tmp_path, "none"], stdout=log, stderr=log, env=nodes.settings()
        )
    wait_for(lambda: driver.poll() is not None or len(under_way(tmp_path)) == 2)
    assert driver.poll() is None, (tmp_path / "driver.log").read_text()[-3000:]
    lost.kill()
    driver.wait(timeout=PATIENCE_S)
    assert driver.returncode == 0, (tmp_path / "driver.log").read_text()[-3000:]

    trials = [json.loads(path.read_text()) for path in tmp_path.glob("studies/*/trials/*.json")]
    assert len(trials) == 6
    assert {trial["state"] for trial in trials} == {"FINISHED"}
    starts = {
        path.parent.parent.name: path.read_text().split() for path in tmp_path.glob("trials/*/checkpoints/starts")
    }
    again = {key: one for key, one in starts.items() if one != ["0"]}
    assert len(starts) == 6
    ((first, second),) = again.values()
    assert first == "0"
    assert int(second) > 0
    for trial in trials:
        temperature = trial["values"][TEMPERATURE]
        measured = [report["metrics"]["nDCG@10"] for report in trial["reports"]]
        assert measured == pytest.approx([curve(temperature, number + 1) for number in range(EVALUATIONS)])
    nodes.ready(0)
