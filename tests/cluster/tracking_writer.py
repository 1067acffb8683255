"""One of several processes that record at the same time: `python -m tests.cluster.tracking_writer URI PARENT INDEX`.

With `slow` behind it, it says `half` when half of its curve has arrived, and goes on slowly, to be killed.
What it records follows from its index alone, so a process that is started again records the same.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stillhouse.tracking import MlflowTracker, Point, QueuedTracker

EXPERIMENT = "team"
STEPS, EVERY, SHARED = 400, 20, 25
"""Steps of a run's loss; steps between dev measures; points that each writer adds to the parent's one curve."""
EPOCH = 1_700_000_000.0


def loss(index: int) -> list[Point]:
    return [Point("train/loss", (index + 1) / (step + 3), step, EPOCH + step / 4) for step in range(STEPS)]


def measures(index: int) -> list[Point]:
    steps = range(EVERY, STEPS + 1, EVERY)
    return [Point("dev/nDCG@10", step / STEPS - index / 1000, step, EPOCH + step / 4) for step in steps]


def shared(index: int) -> list[Point]:
    """Points of the parent, on a curve that all writers share."""
    steps = range(index * SHARED, (index + 1) * SHARED)
    return [Point("search/seconds", step / 8, step, EPOCH + step) for step in steps]


def files(index: int) -> dict[str, bytes]:
    """Artifacts by their path: pictures' sizes, and one of a small model's."""
    draw = random.Random(index)
    return {
        "recipe.yaml": f"seed: {index}\n".encode(),
        "figures/curve.png": draw.randbytes(20_000 + index),
        "figures/scores.png": draw.randbytes(30_000 + index),
        "student/model.safetensors": draw.randbytes(1_000_000 + index),
    }


def batches(points: list[Point], size: int) -> Iterator[list[Point]]:
    for start in range(0, len(points), size):
        yield points[start : start + size]


def main(uri: str, parent: str, index: int, slow: bool) -> None:
    tracker = QueuedTracker(MlflowTracker(uri, EXPERIMENT))
    run = tracker.run(f"trial/{index}", f"trial {index:03d}", parent=parent, tags={"trial_state": "RUNNING"})
    tracker.params(run, {"seed": index, "loss.name": "kl"})
    for points in batches(loss(index), 10):
        tracker.points(run, points)
        time.sleep(0.02)  # as a training reports: not all at once
        if slow and points[-1].step >= STEPS // 2:
            tracker.flush(patience_s=600)
            print("half", flush=True)
            time.sleep(5)
    for points in batches(measures(index), 1):
        tracker.points(run, points)
    tracker.points(parent, shared(index))
    # What a resumed search does with a trial whose record may not have arrived.
    tracker.points(run, loss(index)[STEPS // 4 :])
    with tempfile.TemporaryDirectory() as place:
        for name, content in files(index).items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for path in sorted(Path(place).iterdir()):
            tracker.artifact(run, path, path.name if path.is_dir() else "")
        tracker.end(run, tags={"trial_state": "FINISHED"})
        tracker.flush(patience_s=600)
    print(tracker.delivered(run))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["slow"])
