"""What every benchmark writes and how it times: one JSON per question, read again by `benchmarks/page.py`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

RESULTS = Path(__file__).parent / "results"


class Row(BaseModel):
    """One line of a question's table."""

    model_config = ConfigDict(extra="allow")

    name: str
    value: float | None = None
    unit: str = ""
    values: dict[str, float | None] | list[float] = {}
    """By column where one number is not enough; a list holds the single timings behind `value`."""
    ratio: float | None = None
    """Against the peer or the limit; above 1 is better than the peer unless the question says otherwise."""
    spread: float | None = None
    """(largest - smallest) / median of the repeats."""
    reached: bool | None = None
    """Whether this row is at the goal; None where the goal is not about it."""


class Result(BaseModel):
    """One question: what was run, where, and what came of it. Further keys are kept and not shown."""

    model_config = ConfigDict(extra="allow")

    question: str
    command: str
    goal: str
    machine: str | dict[str, Any]
    versions: dict[str, str]
    rows: list[Row]
    about: str = ""
    notes: str | list[str] = ""


def read_result(path: Path) -> Result:
    """A file of `benchmarks/results/`; ValueError names the first field that is wrong."""
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {place}: {first['msg']}; see benchmarks/measured.py") from None


def write_result(result: Result, path: Path) -> None:
    """Write the JSON and print its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    for row in result.rows:
        print(row.model_dump_json(exclude_none=True, exclude_defaults=True))
    print(path)


def parser_of(doc: str, name: str) -> argparse.ArgumentParser:
    """The options that every benchmark has; `name` is that of its script and of its result."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try it in little time; writes to --output alone")
    parser.add_argument("--output", type=Path, help=f"benchmarks/results/{name}.json where it is not given")
    parser.set_defaults(name=name)
    return parser


def hand_in(result: Result, options: argparse.Namespace) -> None:
    """Write the result; of a run at small size, which nobody should take for one, only print the rows."""
    path: Path | None = options.output or (None if options.small else RESULTS / f"{options.name}.json")
    if path is None:
        print(*(row.model_dump_json(exclude_none=True, exclude_defaults=True) for row in result.rows), sep="\n")
    else:
        write_result(result, path)


def machine(threads: int | None = None) -> dict[str, Any]:
    """The processor's name, its cores, the memory, and the torch threads of the run where they count."""
    facts: dict[str, Any] = {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gib": round(_memory() / 2**30, 1)}
    return facts | ({"threads": threads} if threads else {})


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of stillhouse, these packages and Python."""
    return {name: metadata.version(name) for name in ("stillhouse", *packages)} | {"python": platform.python_version()}


def alternate(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, `repeats` times each in turn, so that what else the machine does meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median; 0 for a single value."""
    return (max(values) - min(values)) / statistics.median(values)


def command_of(module: str) -> str:
    """The command line that is running, as a person types it."""
    return " ".join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
