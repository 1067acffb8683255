"""`stillhouse ui` in a headless Chromium: from the experiment to the trials side by side, and to a run's figures."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cluster.ui_pages import tour, ui
from tests.contracts.browser import PROGRAM, REASON, Browser
from tests.contracts.search_record import record_search

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=REASON)


def test_a_search_is_one_click_from_the_runs(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    search = record_search(uri, tmp_path / "work")
    with ui(uri) as served:
        port = int(served.server.rpartition(":")[2])
        assert served.lines[1].startswith("Runs of demo: ")
        assert served.lines[2].startswith(f"Search demo ({search.study[:8]}), its trials side by side: ")
        with Browser(tmp_path / "profile") as browser:
            texts = dict(tour(browser, served, search, tmp_path))
            assert browser.errors == []
    assert set(texts) == {"experiment", "trials", "comparison", "run", "figure"}
    # The parent alone stands among the runs: its trials are folded in.
    assert "trial 000" not in texts["experiment"]
    ranked = sorted((trial for trial in search.trials if trial.metric), key=lambda trial: -(trial.metric or 0))
    shown = [line for line in texts["trials"].splitlines() if line.startswith("trial 0")]
    assert shown == [f"trial {trial.number:03d}" for trial in (*ranked, search.trials[-1])]
    for name in ("temperature", "num_negatives", "learning_rate"):
        assert f".{name}" in texts["trials"]
        assert name in texts["run"]
    assert "nDCG@10 on dev\tstate" in texts["run"]
    for trial in ranked:
        assert f"{trial.number:03d}\t{trial.metric:.4f}\t{trial.state.lower()}" in texts["run"]
    # Ended by SIGTERM, it leaves no server behind.
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
