"""Pictures of a study over its keys: slices, parallel coordinates, importance, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from stillhouse.comparison import svg
from stillhouse.comparison.axes import Axis, labels
from stillhouse.search.dimensions import Choice
from stillhouse.search.importance import Importance
from stillhouse.search.record import Trial
from stillhouse.study_report.charts import (
    BELOW,
    BEST,
    FINISHED,
    HEIGHT,
    RIGHT_END,
    ROW,
    STOPPED,
    TOP,
    frame,
    legend,
    sign,
    up,
)
from stillhouse.study_report.knobs import Knob

INSET = 12
"""Room at the ends of an axis of values, pixels."""


def slice_of(trials: Sequence[Trial], best: Trial, knob: Knob, measure: str) -> Element:
    """The measure over the values of one key."""
    judged = [trial for trial in trials if trial.metric is not None and knob.key in trial.values]
    about = f"{len(judged)} trials drew {knob.key}"
    root = svg.drawing(TOP + HEIGHT + BELOW + ROW, f"{measure} over {knob.name}", about)
    x = Axis(0.0, 1.0, svg.LEFT + INSET, RIGHT_END - INSET)
    y = up([trial.metric or 0.0 for trial in judged])
    frame(root, y, _columns(x, knob), knob.key, measure)
    for trial in sorted(judged, key=lambda one: one is best):
        at = x.place(knob.place(trial.values[knob.key])) + _aside(trial, knob)
        sign(root, at, y.place(trial.metric or 0.0), trial, best)
    legend(root, judged, best)
    return root


def parallel(trials: Sequence[Trial], best: Trial, knobs: Sequence[Knob], measure: str, mode: str) -> Element:
    """A line for every trial through its values to its measure; the best quarter of those judged stands out."""
    judged = [trial for trial in trials if trial.metric is not None]
    chosen = best_quarter(judged, mode)
    names = [*(knob.name for knob in knobs), measure]
    gap = (RIGHT_END - 30 - svg.LEFT) / (len(names) - 1)
    axes = [svg.LEFT + 10 + number * gap for number in range(len(names))]
    about = f"{len(judged)} trials over {', '.join(names)}"
    root = svg.drawing(58 + HEIGHT + 34 + 3 * ROW, "Parallel coordinates", about)
    y = Axis(0.0, 1.0, 58 + HEIGHT, 58)
    values = [trial.metric or 0.0 for trial in judged]
    measured = Axis(min(values), max(values), y.start, y.end)
    for trial in sorted(judged, key=lambda one: (one is best, one in chosen)):
        places = [
            # What a trial did not draw stands below the axis.
            (at, y.place(knob.place(trial.values[knob.key])) if knob.key in trial.values else y.start + 14)
            for at, knob in zip(axes, knobs, strict=False)
        ]
        svg.curve(root, [*places, (axes[-1], measured.place(trial.metric or 0.0))], *_thread(trial, best, chosen))
    marks = measured.ticks()
    last = [((measured.place(value) - y.start) / (y.end - y.start), text) for value, text in _named(marks)]
    _upright_axes(root, y, axes, names, [*(knob.ticks() for knob in knobs), last])
    rows = ((best, f"trial {best.number}, the best"), (chosen[0], "the best quarter"), (None, "all others"))
    for row, (trial_of_kind, words) in enumerate(rows):
        at = y.start + 34 + row * ROW
        others = [chosen[0]] if trial_of_kind is chosen[0] else []
        kind = _thread(trial_of_kind, best if row == 0 else None, others)
        svg.curve(root, [(svg.LEFT, at), (svg.LEFT + 44, at)], *kind)
        svg.text(root, svg.LEFT + 54, at + 5, words)
    return root


def _thread(trial: Trial | None, best: Trial | None, chosen: Sequence[Trial | None]) -> tuple[str, str]:
    """Style and dash of a trial's line."""
    if trial is not None and trial is best:
        return f"s{BEST} curve", ""
    return (f"s{FINISHED} curve", "6 3") if trial in chosen else ("s6 thread", "")


def _upright_axes(
    root: Element, y: Axis, axes: Sequence[float], names: Sequence[str], marks: Sequence[Sequence[tuple[float, str]]]
) -> None:
    """One axis for each name, with its ticks beside it."""
    limit = max(6, int((axes[1] - axes[0]) / 4))
    final = len(names) - 1
    for number, (at, name, column) in enumerate(zip(axes, names, marks, strict=True)):
        svg.line(root, at, y.start, at, y.end, "axis")
        # Names in two rows, so that neighbours do not run into each other.
        anchor = {0: "start", final: "end"}.get(number, "middle")
        svg.text(root, at, 18 + 18 * (number % 2), svg.shorten(name, limit), anchor=anchor)
        side, towards = ("end", -6) if number == final else ("start", 6)
        for place, words in column:
            svg.line(root, at - 3, y.place(place), at + 3, y.place(place), "axis")
            label = svg.shorten(words, 12)
            svg.text(root, at + towards, y.place(place) + 4.5, label, anchor=side, soft=True, halo=True)


def importance_bars(found: Sequence[Importance], knobs: Sequence[Knob]) -> Element:
    """A bar for each key and each basis; the mark across a bar is what chance alone reached."""
    told = [one for one in found if any(key.share is not None for key in one.keys.values())]
    left, right = 200, svg.WIDTH - 70
    step = ROW * len(told) + 12
    about = "; ".join(f"{knob.name} {_share(told[0].keys[knob.key].share)}" for knob in knobs)
    root = svg.drawing(20 + step * len(knobs) + 44 + (len(told) + 1) * ROW, "Importance of the keys", about)
    x = Axis(0.0, 1.0, left, right)
    end = 12 + step * len(knobs)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        svg.line(root, x.place(value), 8, x.place(value), end, "grid")
        svg.text(root, x.place(value), end + 18, f"{value:.0%}", anchor="middle", soft=True)
    for row, knob in enumerate(knobs):
        top = 14.0 + row * step
        svg.text(root, left - 10, top + step / 2, svg.shorten(knob.name, 24), anchor="end")
        for number, one in enumerate(told):
            _bar(root, x, top + number * ROW, number, one.keys[knob.key].share, one.keys[knob.key].chance)
    at = end + 40
    for number, one in enumerate(told):
        _rectangle(root, svg.LEFT, at - 7, 28, 14, _STYLE[number])
        svg.text(root, svg.LEFT + 36, at + 5, f"{one.basis}: {one.trials}")
        at += ROW
    svg.line(root, svg.LEFT + 14, at - 8, svg.LEFT + 14, at + 8, "chance")
    svg.text(root, svg.LEFT + 36, at + 5, "the most that the key reached when its values were shuffled")
    return root


def pair(trials: Sequence[Trial], best: Trial, one: Knob, other: Knob, measure: str, mode: str) -> Element:
    """Two keys against each other; the better a trial, the larger its sign."""
    judged = [
        trial for trial in trials if trial.metric is not None and one.key in trial.values and other.key in trial.values
    ]
    about = f"{len(judged)} trials drew both"
    root = svg.drawing(TOP + HEIGHT + BELOW + ROW, f"{one.name} and {other.name}", about)
    x = Axis(0.0, 1.0, svg.LEFT + INSET, RIGHT_END - INSET)
    y = Axis(0.0, 1.0, TOP + HEIGHT - INSET, TOP + INSET)
    rows = [(y.place(place), svg.shorten(text, 7)) for place, text in other.ticks()]
    across, upright = Axis(0.0, 0.0, svg.LEFT, RIGHT_END), Axis(0.0, 0.0, TOP + HEIGHT, TOP)
    svg.frame(root, across, upright, one.key, other.key, columns=_columns(x, one), rows=rows)
    values = sorted((trial.metric or 0.0 for trial in judged), reverse=mode == "min")
    for trial in sorted(judged, key=lambda trial: (trial.metric or 0.0) * (1 if mode == "max" else -1), reverse=True):
        share = values.index(trial.metric or 0.0) / max(1, len(values) - 1)
        kind = BEST if trial is best else FINISHED if trial.state == "FINISHED" else STOPPED
        at = x.place(one.place(trial.values[one.key])) + _aside(trial, one)
        svg.marker(
            root, at, y.place(other.place(trial.values[other.key])), kind,
            hollow=kind == STOPPED, scale=0.5 + 1.3 * share,
        )  # fmt: skip
    legend(root, judged, best)
    return root


def best_quarter(judged: Sequence[Trial], mode: str) -> list[Trial]:
    """The best of the trials with a measure: a quarter of them, at least two."""
    ordered = sorted(judged, key=lambda trial: (trial.metric or 0.0) * (-1 if mode == "max" else 1))
    return ordered[: max(2, round(len(ordered) / 4))]


_STYLE = ("s0 area", "s1 outline")


def _bar(root: Element, x: Axis, top: float, number: int, share: float | None, chance: float | None) -> None:
    if share is None or chance is None:
        svg.text(root, x.start + 4, top + 14, "cannot be told", soft=True)
        return
    _rectangle(root, x.start, top + 2, x.place(share) - x.start, 16, _STYLE[number])
    svg.line(root, x.place(chance), top, x.place(chance), top + 20, "chance")
    svg.text(root, x.end + 8, top + 15, _share(share), soft=True)


def _rectangle(root: Element, x: float, y: float, width: float, height: float, style: str) -> None:
    places = {"x": x, "y": y, "width": max(0.5, width), "height": height}
    SubElement(root, "rect", {name: f"{value:.1f}" for name, value in places.items()} | {"class": style})


def _share(share: float | None) -> str:
    return "cannot be told" if share is None else f"{share:.0%}"


def _columns(x: Axis, knob: Knob) -> list[tuple[float, str]]:
    found = knob.ticks()
    return [(x.place(place), svg.shorten(text, max(8, 80 // len(found)))) for place, text in found]


def _aside(trial: Trial, knob: Knob) -> float:
    """Trials of one choice stand side by side, not over each other."""
    return (trial.number % 7 - 3) * 4.0 if isinstance(knob.dimension, Choice) else 0.0


def _named(values: Sequence[float]) -> list[tuple[float, str]]:
    return list(zip(values, labels(values), strict=True))
