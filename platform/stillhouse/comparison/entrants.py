"""What a report is made from: the rankers, what all were measured on, their trainings, where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stillhouse.evaluation.measures import Qrels
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.collection import Collection
    from stillhouse.evaluation.latency import Latency


@dataclass(frozen=True)
class Ground:
    """The queries, judgements and texts that all rankers are compared on."""

    collection: Collection
    split: str
    """Its name in `collection.splits`."""
    qrels: Qrels
    name: str
    """As the report shows it: a reference and a split."""


@dataclass(frozen=True)
class Curves:
    """One training: (step, value) of the loss, and of each dev measure by its name."""

    loss: Sequence[tuple[float, float]] = ()
    dev: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A part of the provenance: facts by name, and perhaps a whole file."""

    title: str
    facts: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Entrant:
    """One ranker with its ranking of the ground's queries."""

    name: str
    run: Run
    latency: Latency | None = None
    note: str = ""
