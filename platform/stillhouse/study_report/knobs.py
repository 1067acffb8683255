"""The searched keys as a report shows them: short names, labels of values, places on an axis."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.comparison.axes import labels, log_ticks, ticks
from stillhouse.search.dimensions import Choice, Dimension
from stillhouse.search.space import SearchSpace, lookup


@dataclass(frozen=True)
class Knob:
    """One key of the space."""

    key: str
    """Its dotted key in the recipe."""
    name: str
    """The shortest tail of the key that no other key ends with."""
    dimension: Dimension
    default: Any = None
    """The recipe's own value; None where the recipe has no such key."""

    def place(self, value: Any) -> float:
        """Where a value stands between the ends of its range, 0 to 1; choices stand at equal distances."""
        if isinstance(self.dimension, Choice):
            texts = [json.dumps(one) for one in self.dimension.choice]
            return (texts.index(json.dumps(value)) + 0.5) / len(texts)
        low, high = (self._scaled(end) for end in self.dimension.bounds)
        return (self._scaled(value) - low) / (high - low)

    def has(self, values: Mapping[str, Any], choice: Any) -> bool:
        """Whether a trial's values hold this choice; in a mapping the order of keys counts, as that of stages does."""
        return self.key in values and json.dumps(values[self.key]) == json.dumps(choice)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels for an axis."""
        if isinstance(self.dimension, Choice):
            return [(self.place(value), self.label(value)) for value in self.dimension.choice]
        low, high = self.dimension.bounds
        if self.dimension.log:
            found = log_ticks(low, high) or [low, high]
            return [(self.place(value), f"{value:g}") for value in found]
        values = ticks(low, high)
        return list(zip([self.place(value) for value in values], labels(values), strict=True))

    def label(self, value: Any) -> str:
        """A value in few characters."""
        if not isinstance(value, dict):
            return _plain(value)
        choices = getattr(self.dimension, "choice", ())
        short = _mapping(value)
        return short if [_mapping(one) for one in choices].count(short) < 2 else json.dumps(value)

    def default_label(self) -> str:
        """The recipe's own value; of a mapping only its name or its keys, as it holds every default."""
        if isinstance(self.default, dict):
            return str(self.default.get("name", " > ".join(self.default)))
        return self.label(self.default)

    def _scaled(self, value: float) -> float:
        return math.log(value) if getattr(self.dimension, "log", False) else float(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def _mapping(value: dict[str, Any]) -> str:
    """A mapping of the recipe in few words: a loss by its name, stages in their order."""
    if "name" not in value:
        return " > ".join(value)
    rest = ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if key != "name")
    return f"{value['name']} ({rest})" if rest else str(value["name"])


def knobs_of(space: SearchSpace, recipe: Mapping[str, Any]) -> list[Knob]:
    """The keys of the space, in its order; `recipe` is the plain recipe that the trials changed."""
    keys = list(space.space)
    return [Knob(key, _short(key, keys), space.space[key], lookup(recipe, key)) for key in keys]


def _short(key: str, keys: Sequence[str]) -> str:
    parts = key.split(".")
    others = [other for other in keys if other != key]
    for start in range(len(parts) - 1, 0, -1):
        tail = ".".join(parts[start:])
        if not any(other == tail or other.endswith(f".{tail}") for other in others):
            return tail
    return key
