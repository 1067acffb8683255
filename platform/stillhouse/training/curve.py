"""The curves of a training, written by rank 0 into the checkpoint folder: a JSON line per step, one per evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

CURVE = "curve.jsonl"


def append_point(folder: Path, point: Mapping[str, float], name: str = CURVE) -> None:
    with (folder / name).open("a") as stream:
        stream.write(json.dumps(dict(point)) + "\n")


def read_points(path: Path) -> list[dict[str, float]]:
    """The points of a file of curves, in order; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trim_curve(path: Path, last_step: int) -> None:
    """Drop the points and reports of steps that a kill undid."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
        path.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """The step of a curve's line; a line that a full disk or a kill has torn is past every step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
