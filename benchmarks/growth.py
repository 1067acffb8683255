"""Does the cost of an item, or the memory, grow with their number? Sizes in processes of their own, and the table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, versions
from benchmarks.memory import MIB

TOLERANCE = 0.1
Measured = dict[str, Any]
"""`seconds`, memory as `<who>_bytes`, and what else a question tells."""


@dataclass(frozen=True)
class Growth:
    """One question of growth: `measure(size)` runs in a fresh process for each size."""

    name: str
    question: str
    about: str
    item: str
    sizes: tuple[int, ...]
    small: tuple[int, ...]
    measure: Callable[[int], Measured]
    memory: Mapping[str, str]
    """Key of what was measured -> the column's head."""
    packages: Sequence[str]
    flat: bool = True
    """Whether memory may not grow at all; else it may grow with the items, and no faster."""

    def main(self) -> None:
        """The command line."""
        parser = parser_of(self.question, self.name)
        parser.add_argument("--sizes", type=lambda text: tuple(int(size) for size in text.split(",")))
        parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
        arguments = parser.parse_args()
        if arguments.measure:
            print(json.dumps(self.measure(arguments.measure)))
            return
        sizes = arguments.sizes or (self.small if arguments.small else self.sizes)
        result = self.result({size: self._in_a_process(size) for size in sizes})
        arguments.small = sizes != self.sizes
        hand_in(result, arguments)

    def _in_a_process(self, size: int) -> Measured:
        command = [sys.executable, "-m", f"benchmarks.{self.name}", "--measure", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: Measured = json.loads(done.stdout.splitlines()[-1])
        print(f"{size:,} {self.item}s: {found}", file=sys.stderr)
        return found

    def result(self, found: Mapping[int, Measured]) -> Result:
        """The table of all sizes; the last one is judged against the one before."""
        rows = []
        sizes = list(found)
        costs = dict(zip(sizes[1:], added_costs(found), strict=True))
        for size, one in found.items():
            values = {head: one[key] / MIB for key, head in self.memory.items()}
            values |= {"seconds": one["seconds"], f"microseconds a {self.item} more": costs.get(size)}
            values |= one.get("columns", {})
            rows.append(Row(name=f"{size:,} {self.item}s", values=values))
        if len(sizes) > 2:
            before, last = sizes[-2:]
            grown = max(found[last][key] / found[before][key] for key in self.memory)
            bound = (1 if self.flat else last / before) * (1 + TOLERANCE)
            cheap = 0 < costs[last] <= costs[before] * (1 + TOLERANCE)
            rows[-1].reached = grown <= bound and cheap
            rows[-1].ratio = costs[last] / costs[before]
        grows = "by at most" if self.flat else "no faster than their number, but for"
        return Result(
            question=self.question,
            about=f"{self.about} Memory is the largest of a process's own pages (mapped files and shared memory not "
            f"counted). The cost of a {self.item} is what those more than in the line above took, so that the start of "
            "processes does not count; the ratio is that of the last line to the one before.",
            goal=f"from {sizes[-2]:,} {self.item}s to {sizes[-1]:,} memory grows {grows} {TOLERANCE:.0%}, the cost of "
            f"one by at most {TOLERANCE:.0%}",
            command=command_of(self.name),
            machine=machine(),
            versions=versions(*self.packages),
            rows=rows,
            measured={str(size): one for size, one in found.items()},
        )


def added_costs(found: Mapping[int, Measured]) -> list[float]:
    """Microseconds of each item more, from each size to the next."""
    sizes = list(found)
    return [
        (found[size]["seconds"] - found[before]["seconds"]) / (size - before) * 1e6 for before, size in pairwise(sizes)
    ]
