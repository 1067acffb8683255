"""`docs/performance.md`, from `benchmarks/results/*.json`: `make docs` runs `python -m benchmarks.page docs`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measured import RESULTS, Result, Row, read_result
from benchmarks.sizing import section
from stillhouse.markdown import markdown_table

NOTES = Path(__file__).parent / "notes"
"""`<name>.md` per question: what was tried, and what it means; joined to its section."""

INTRODUCTION = """# Performance

Written by `make docs` from the files of `benchmarks/results/`; run a benchmark again instead of changing this page.

Each section is one question: what was run, its goal, what was measured, on which machine, and the command that does it
again. Spread is the largest minus the smallest repeat, by the median. A goal that was not reached says so.

| question | goal | result |
|---|---|---|
"""


WAITING = {
    "scoring_overhead": "what Ray and the store cost beside a plain loop (goal: 10 % more at most)",
    "training_growth": "training on a thousand to 100 thousand groups (goal: flat)",
    "scoring_speed": "cross-encoder scoring against sentence-transformers, and as a share of the machine's matrix rate",
    "training_speed": "training against the trainers of sentence-transformers and PyLate",
    "fsdp_vs_ddp": "bytes of state per rank and step time, FSDP2 against DDP",
    "dev_evaluation": "the share of dev evaluation in a training",
    "tokenisation": "tokenising once for all trials against once in each",
    "search_cost": "20 trials against their bare trainings, and ASHA against all trials to their end",
    "gpu": "scoring and training on one GPU as a share of its matrix rate",
}
"""Scripts of `benchmarks/` and what each asks; one without a result is named on the page as not measured."""


def page(results: Path = RESULTS, notes: Path = NOTES) -> str:
    """The whole page; ValueError names a file that lacks what a section needs."""
    found = {path.stem: read_result(path) for path in sorted(results.glob("*.json")) if _is_question(path)}
    lines = [
        f"| [{result.question}](#{_anchor(result.question)}) | {result.goal} | {_verdict(result.rows)} |\n"
        for result in found.values()
    ]
    sections = [_section(name, result, notes / f"{name}.md") for name, result in found.items()]
    waiting = [f"- `python -m benchmarks.{name}`: {about}\n" for name, about in WAITING.items() if name not in found]
    if waiting:
        lines += ["\nWritten, **not measured in full yet**:\n\n", *waiting]
    return INTRODUCTION + "".join(lines) + "".join(sections) + section(results)


def _is_question(path: Path) -> bool:
    """Other pages keep their measurements here too."""
    return "question" in json.loads(path.read_text(encoding="utf-8"))


def _section(name: str, result: Result, note: Path) -> str:
    said = [result.notes] if isinstance(result.notes, str) else result.notes
    if note.is_file():
        said = [*said, note.read_text(encoding="utf-8").strip()]
    said = [text for text in said if text]
    if any(row.reached is False for row in result.rows) and not said:
        raise ValueError(f"{name}.json: a goal was not reached; say what was tried in its notes or in {note}")
    about = f"{result.about}\n\n" if result.about else ""
    versions = ", ".join(f"{package} {version}" for package, version in result.versions.items())
    return (
        f"\n## {result.question}\n\n{about}Goal: {result.goal}. Result: {_verdict(result.rows)}.\n\n"
        + _table(result.rows)
        + "".join(f"\n{text}\n" for text in said)
        + f"\n`{result.command}` writes [{name}.json](../benchmarks/results/{name}.json). "
        + f"{_machine(result.machine)}; {versions}.\n"
    )


def _verdict(rows: Sequence[Row]) -> str:
    judged = [row for row in rows if row.reached is not None]
    missed = [row.name for row in judged if not row.reached]
    if not judged:
        return "measured"
    return f"**not reached**: {', '.join(missed)}" if missed else "reached"


def _table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows if isinstance(row.values, dict) for name in row.values))
    ends = {
        "ratio": ["" if row.ratio is None else f"{row.ratio:.3g}" for row in rows],
        "spread": ["" if row.spread is None else f"{row.spread:.1%}" for row in rows],
        "goal": [{None: "", True: "reached", False: "**not reached**"}[row.reached] for row in rows],
    }
    table = {"": [row.name for row in rows]}
    if any(row.value is not None for row in rows):
        table["value"] = [f"{number(row.value)} {row.unit}".strip() for row in rows]
    for name in columns:
        table[name] = [number(row.values.get(name)) if isinstance(row.values, dict) else "" for row in rows]
    table |= {name: cells for name, cells in ends.items() if any(cells)}
    return "\n".join(markdown_table(list(table), list(zip(*table.values(), strict=True)))) + "\n"


def number(value: float | None) -> str:
    """Three digits or all before the point, with thousands apart; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _machine(facts: str | dict[str, Any]) -> str:
    if isinstance(facts, str):
        return facts
    words = {"cores": "{} cores", "memory_gib": "{} GiB", "threads": "{} torch threads"}
    return ", ".join(words.get(name, "{}" if name in ("cpu", "gpu") else f"{name} {{}}").format(value)
                     for name, value in facts.items())  # fmt: skip


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1], "performance.md").write_text(page(), encoding="utf-8")
