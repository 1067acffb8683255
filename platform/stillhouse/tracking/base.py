"""What a tracker is, and the one that records nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from stillhouse.tracking.views import View

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    """`<split>/<ir_measures name>` or `<group>/<name>`: `dev/nDCG@10`, `train/loss`."""
    value: float
    step: int
    time: float
    """Unix seconds; a point logged twice with the same time stands once."""


class Dataset(NamedTuple):
    """What a run read, by name and digest; the data itself stays where it is."""

    name: str
    digest: str
    """At most 36 characters."""
    context: str
    """What it was used for: `train`, `dev`, `test`."""
    facts: Mapping[str, Any]
    """Counts, and whatever else tells it from another one."""


class Tracker(Protocol):
    """Where runs are recorded. Runs are found again by key, so that a resumed command makes no second one."""

    def run(self, key: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Find the run of this key, or create it; return its id. `parent` makes it a child."""

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log parameters once; equal values again are fine, other values are a TrackingError."""

    def points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points of curves, in batches."""

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Keep a file, or all files of a folder, under `folder`."""

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags; of one that is there already the value is replaced."""

    def datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Say what the run reads; saying it again changes nothing."""

    def note(self, run_id: str, text: str) -> None:
        """Set the run's description, in Markdown; `{experiment}` and `{run}` become the ids, for links."""

    def view(self, view: View) -> None:
        """Keep a view of a search among those that the experiment's page lists."""

    def end(self, run_id: str, status: Status = "FINISHED", tags: Mapping[str, str] | None = None) -> None:
        """Close the run."""


class NullTracker:
    """Records nothing."""

    def run(self, key: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """The key itself is the id."""
        return key

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Nothing."""

    def points(self, run_id: str, points: Sequence[Point]) -> None:
        """Nothing."""

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Nothing."""

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Nothing."""

    def note(self, run_id: str, text: str) -> None:
        """Nothing."""

    def view(self, view: View) -> None:
        """Nothing."""

    def end(self, run_id: str, status: Status = "FINISHED", tags: Mapping[str, str] | None = None) -> None:
        """Nothing."""


def metric_key(split: str, measure: str) -> str:
    """The name of a measure in MLflow, which refuses `@`, brackets and `=`: `dev/nDCG_at_10`, `test/RR_rel2_at_10`."""
    return f"{split}/{clean(measure)}"


def point_key(name: str) -> str:
    """The MLflow name of a point; a name without a group is a measure on dev."""
    group, slash, rest = name.partition("/")
    return metric_key(group, rest) if slash else metric_key("dev", name)


def clean(name: str) -> str:
    """A name with only the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "", name.replace("(", "_").replace("@", "_at_"))
