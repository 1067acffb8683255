"""One moving line per step on a terminal; a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[float, float, str], None]
"""Called with what is done, the total, and a few words."""

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress_line(console: Console, name: str) -> Iterator[Advance]:
    """Show a step's progress while it lasts."""
    if console.is_terminal:
        with _bar(console, name) as advance:
            yield advance
    else:
        yield _lines(console, name)


@contextmanager
def _bar(console: Console, name: str) -> Iterator[Advance]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


def _lines(console: Console, name: str) -> Advance:
    started = last = time.monotonic()

    def advance(done: float, total: float, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = (now - started) / max(done, 1e-9) * (total - done)
        console.print(f"     {name}: {done:g}/{total:g}, {left:.0f} s left {note}", highlight=False, style="dim")

    return advance
