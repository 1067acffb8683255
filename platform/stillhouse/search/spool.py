"""What lies in a trial's folder besides its checkpoints: the reports so far, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse.artifacts import atomic_file
from stillhouse.search.record import Report

REPORTS = "reports.jsonl"
OUTCOME = "outcome.json"


def trial_folder(root: Path, key: str) -> Path:
    """Where a trial's checkpoints, reports and outcome lie."""
    folder = root / "trials" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_outcome(root: Path, key: str) -> dict[str, Any]:
    """How the objective ended: `state` and perhaps `error`; empty if it did not end by itself."""
    path = trial_folder(root, key) / OUTCOME
    outcome: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return outcome


def append_report(path: Path, report: Report) -> None:
    """Add one report to the spool."""
    with path.open("a") as stream:
        stream.write(json.dumps(report._asdict()) + "\n")


def read_reports(path: Path) -> list[Report]:
    """The spooled reports, by step; a last line that a kill tore is left out."""
    reports: list[Report] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            reports.append(Report(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return sorted(reports)


def write_reports(path: Path, reports: Sequence[Report]) -> None:
    """Replace the spool."""
    with atomic_file(path) as temporary:
        temporary.write_text("".join(json.dumps(report._asdict()) + "\n" for report in reports))
