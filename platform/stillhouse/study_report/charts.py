"""Pictures of a study over its trials: how it went, what each trial learnt, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from stillhouse.comparison import svg
from stillhouse.comparison.axes import Axis, widened
from stillhouse.search.record import Trial

FINISHED, STOPPED, BEST, FAILED = 0, 1, 2, 5
"""Series of the pictures: colour and shape of a trial's sign."""
TOP, HEIGHT, BELOW, ROW = 34, 230, 52, 22
RIGHT_END = svg.WIDTH - svg.RIGHT


def history(trials: Sequence[Trial], best: Trial, measure: str, mode: str) -> Element:
    """Every trial's measure in the order they were drawn, and the best finished one so far."""
    judged = [trial for trial in trials if trial.metric is not None]
    failed = [trial for trial in trials if trial.metric is None]
    about = f"{len(judged)} trials; the best is trial {best.number} with {best.metric:.4f}"
    root = svg.drawing(TOP + HEIGHT + BELOW + 2 * ROW, f"{measure} of every trial", about)
    x = Axis(min(trial.number for trial in trials) - 0.5, max(trial.number for trial in trials) + 0.5, *_across())
    y = up([trial.metric or 0.0 for trial in judged])
    frame(root, y, number_ticks(x), "trial, in the order drawn", measure)
    places: list[tuple[float, float]] = []
    reached: float | None = None
    for trial in judged:
        if trial.state != "FINISHED" or trial.metric is None:
            continue
        better = reached is None or (trial.metric > reached if mode == "max" else trial.metric < reached)
        if better:
            places += [(x.place(trial.number), y.place(reached))] if reached is not None else []
            reached = trial.metric
            places.append((x.place(trial.number), y.place(reached)))
    if reached is not None:
        places.append((x.end, y.place(reached)))
        svg.curve(root, places, f"s{BEST} curve", "8 4")
    for trial in judged:
        sign(root, x.place(trial.number), y.place(trial.metric or 0.0), trial, best)
    for trial in failed:
        svg.marker(root, x.place(trial.number), y.start - 8, FAILED)
    rows = legend(root, trials, best)
    svg.curve(root, [(svg.LEFT, rows), (svg.LEFT + 44, rows)], f"s{BEST} curve", "8 4")
    svg.text(root, svg.LEFT + 54, rows + 5, "the best that finished, so far")
    return root


def curves(trials: Sequence[Trial], best: Trial, measure: str) -> Element:
    """The measure at every evaluation; a line that ends early was stopped."""
    drawn = {
        trial.number: [(report.step, report.metrics[measure]) for report in trial.reports if measure in report.metrics]
        for trial in trials
    }
    points = [point for line in drawn.values() for point in line]
    about = f"{len(drawn)} trials over {max(step for step, _ in points)} steps"
    root = svg.drawing(TOP + HEIGHT + BELOW + ROW, f"{measure} over the steps of every trial", about)
    steps = sorted({step for step, _ in points})
    x = Axis(*widened(steps[0], steps[-1], 0.04), *_across())
    y = up([value for _, value in points])
    frame(root, y, number_ticks(x), "optimiser steps", measure)
    for trial in sorted(trials, key=lambda one: one is best):
        line = [(x.place(step), y.place(value)) for step, value in drawn[trial.number]]
        if not line:
            continue
        if trial is best:
            svg.curve(root, line, f"s{BEST} curve")
        else:
            finished = trial.state == "FINISHED"
            svg.curve(root, line, f"s{FINISHED if finished else STOPPED} thread", "" if finished else "4 3")
        sign(root, *line[-1], trial, best)
    legend(root, trials, best)
    return root


def cost(trials: Sequence[Trial], best: Trial, measure: str) -> Element:
    """The measure over the seconds that a trial took."""
    judged = [trial for trial in trials if trial.metric is not None]
    about = f"trials took {min(t.seconds for t in judged):.0f} to {max(t.seconds for t in judged):.0f} s"
    root = svg.drawing(TOP + HEIGHT + BELOW + ROW, f"{measure} over the time of every trial", about)
    x = Axis(0.0, max(trial.seconds for trial in judged) * 1.05 or 1.0, *_across())
    y = up([trial.metric or 0.0 for trial in judged])
    frame(root, y, number_ticks(x), "seconds of the trial", measure)
    for trial in judged:
        sign(root, x.place(trial.seconds), y.place(trial.metric or 0.0), trial, best)
    legend(root, judged, best)
    return root


def front(trials: Sequence[Trial], beaten_by_none: Sequence[Trial], measures: Sequence[str]) -> Element:
    """Two objectives against each other; a line joins the trials that no other beats in both."""
    judged = [trial for trial in trials if trial.metrics is not None and len(trial.metrics) > 1]
    both = {trial.number: trial.metrics or () for trial in judged}
    about = f"{len(beaten_by_none)} of {len(judged)} trials are beaten by none"
    root = svg.drawing(TOP + HEIGHT + BELOW + 2 * ROW, f"{measures[0]} against {measures[1]}", about)
    seconds = [value[1] for value in both.values()]
    x = Axis(*widened(min(seconds), max(seconds)), *_across())
    y = up([value[0] for value in both.values()])
    frame(root, y, number_ticks(x), measures[1], measures[0])
    members = {trial.number for trial in beaten_by_none}
    line = sorted((x.place(both[number][1]), y.place(both[number][0])) for number in members if number in both)
    svg.curve(root, line, f"s{BEST} thread", "8 4")
    for trial in judged:
        value = both[trial.number]
        kind = BEST if trial.number in members else FINISHED
        svg.marker(root, x.place(value[1]), y.place(value[0]), kind, hollow=kind == FINISHED)
    top = TOP + HEIGHT + BELOW + 6
    for row, (kind, words) in enumerate(((BEST, "beaten by no other in both"), (FINISHED, "beaten"))):
        svg.marker(root, svg.LEFT + 8, top + row * ROW, kind, hollow=kind == FINISHED)
        svg.text(root, svg.LEFT + 24, top + row * ROW + 5, words)
    return root


def up(values: Sequence[float]) -> Axis:
    """The upright axis of a measure."""
    return Axis(*widened(min(values), max(values)), TOP + HEIGHT, TOP)


def number_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Pixels and labels of round numbers."""
    return [(axis.place(value), f"{value:g}") for value in axis.ticks() if value == int(value) or axis.high < 10]


def frame(root: Element, y: Axis, columns: Sequence[tuple[float, str]], xlabel: str, ylabel: str) -> None:
    """Grid and ticks of `y`, and the given ticks across."""
    blank = Axis(0, 0, svg.LEFT, RIGHT_END)
    svg.frame(root, blank, y, xlabel, ylabel, columns=columns)


def sign(root: Element, x: float, y: float, trial: Trial, best: Trial) -> None:
    """A trial's sign: filled circle, hollow square where it was stopped, triangle for the best."""
    if trial is best:
        svg.marker(root, x, y, BEST)
    else:
        finished = trial.state == "FINISHED"
        svg.marker(root, x, y, FINISHED if finished else STOPPED, hollow=not finished)


def legend(root: Element, trials: Sequence[Trial], best: Trial, top: float = TOP + HEIGHT + BELOW + 6) -> float:
    """What the signs mean, of those that stand in the picture; returns where the next row would be."""
    states = {trial.state for trial in trials if trial is not best}
    rows = [(BEST, False, f"trial {best.number}, the best")]
    rows += [(FINISHED, False, "finished")] if "FINISHED" in states else []
    rows += [(STOPPED, True, "stopped early")] if "PRUNED" in states else []
    x = float(svg.LEFT + 8)
    for kind, hollow, words in rows:
        svg.marker(root, x, top, kind, hollow=hollow)
        svg.text(root, x + 16, top + 5, words)
        x += 16 + 8 * len(words) + 28
    if "FAILED" in states:
        svg.marker(root, x, top, FAILED)
        svg.text(root, x + 16, top + 5, "failed")
    return top + ROW


def _across() -> tuple[float, float]:
    return svg.LEFT, RIGHT_END
