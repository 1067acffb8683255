"""Axes of the pictures: round ticks, and from values to places on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten) from `low` to `high`."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from `low` to `high`; of more than eight the powers only."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in found if low <= tick <= high]
    whole = [tick for tick in inside if math.log10(tick).is_integer()]
    return whole if len(inside) > 8 and len(whole) > 1 else inside


def labels(values: Sequence[float]) -> list[str]:
    """The ticks as text, all with as many decimals as the finest needs."""
    decimals = max((len(f"{value:.10g}".partition(".")[2]) for value in values), default=0)
    plain = all("e" not in f"{value:.10g}" for value in values)
    return [f"{value:.{decimals}f}" if plain else f"{value:g}" for value in values]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


def widened(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """A range with some room on both sides, and never empty."""
    room = (high - low) * share or abs(low) * share or 1.0
    return low - room, high + room
