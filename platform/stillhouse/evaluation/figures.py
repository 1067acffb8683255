"""Pictures of a run as PNG or SVG (by suffix), readable without colour: lines and markers differ too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillhouse.artifacts import atomic_file
from stillhouse.evaluation.diagnostics import ScoreSpread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with colour-blind eyes, and of different lightness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BINS = 40


def score_histograms(spreads: Sequence[ScoreSpread], path: Path, *, centred: bool = True) -> None:
    """One panel per ranker: how scores of relevant and of other documents are distributed.

    `centred` takes each ranker's own mean score off, so that rankers of different offset can be compared.
    """
    figure, axes = _panels(len(spreads))
    for axis, spread in zip(axes, spreads, strict=True):
        offset = spread.offset if centred else 0.0
        both = np.concatenate([spread.positives, spread.negatives]) - offset
        bins = np.histogram_bin_edges(both, BINS) if len(both) else np.linspace(-1, 1, BINS)
        kinds = (("others", spread.negatives, 1, "////"), ("relevant", spread.positives, 0, None))
        for label, scores, colour, hatch in kinds:
            if len(scores):
                # Shares, not counts: relevant documents are few.
                weights = np.full(len(scores), 1 / len(scores))
                style = {"histtype": "stepfilled", "alpha": 0.45, "color": COLOURS[colour], "hatch": hatch}
                axis.hist(scores - offset, bins, weights=weights, label=f"{label} ({len(scores):,})", **style)
        axis.set(title=spread.name, xlabel="score, mean 0" if centred else "score")
        axis.margins(y=0.3)  # room for the legend
        _legend(axis)
    axes[0].set_ylabel("share of documents")
    _save(figure, path)


def margin_histogram(spreads: Sequence[ScoreSpread], path: Path) -> None:
    """Normalised margins (s(q, d+) - s(q, d-)) / range of all rankers over each other; above 0 the order is right."""
    figure, (axis,) = _panels(1, width=6.4)
    bins = np.linspace(-1, 1, 81)
    for index, spread in enumerate(spreads):
        if len(spread.margins):
            weights = np.full(len(spread.margins), 1 / len(spread.margins))
            label = f"{spread.name} ({spread.pairwise_accuracy:.1%} right)"
            style = {"color": COLOURS[index % 7], "linestyle": LINES[index % 7], "linewidth": 1.6}
            axis.hist(spread.margins, bins, weights=weights, histtype="step", label=label, **style)
    axis.axvline(0, color="0.5", linewidth=0.8)
    axis.set(xlabel="margin / score range", ylabel="share of pairs")
    _legend(axis)
    _save(figure, path)


def learning_curves(curves: Mapping[str, Sequence[tuple[float, float]]], path: Path, measure: str) -> None:
    """Values of a measure over training: label -> (step, value), e.g. train and dev of several rankers."""
    figure, (axis,) = _panels(1, width=6.4)
    for index, (label, points) in enumerate(curves.items()):
        steps, values = zip(*points, strict=True) if points else ((), ())
        style = {"color": COLOURS[index % 7], "linestyle": LINES[index % 7], "marker": MARKERS[index % 7]}
        axis.plot(steps, values, label=label, markersize=4, **style)
    axis.set(xlabel="step", ylabel=measure)
    _legend(axis)
    _save(figure, path)


def lines_with_spread(
    lines: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
    xlabel: str,
    measure: str,
    *,
    log: bool = False,
) -> None:
    """A measure over what was varied: label -> (x, mean, standard deviation over seeds)."""
    figure, (axis,) = _panels(1, width=5.0)
    for index, (label, points) in enumerate(lines.items()):
        x, mean, spread = zip(*points, strict=True)
        style = {"color": COLOURS[index % 7], "linestyle": LINES[index % 7], "marker": MARKERS[index % 7]}
        axis.errorbar(x, mean, yerr=spread, label=label, markersize=5, capsize=3, **style)
    ticks = sorted({point[0] for points in lines.values() for point in points})
    if log:
        axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=measure)
    _legend(axis)
    _save(figure, path)


def effectiveness_latency(points: Sequence[tuple[str, float, float]], path: Path, measure: str) -> None:
    """Rankers as (name, latency in ms, value of the measure): up and to the left is better."""
    figure, (axis,) = _panels(1, width=6.4)
    for index, (name, milliseconds, value) in enumerate(points):
        axis.plot(milliseconds, value, MARKERS[index % 7], color=COLOURS[index % 7], markersize=8, label=name)
    axis.set(xscale="log", xlabel="median latency of one query (ms)", ylabel=measure)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(0.15)
    if points:
        # Beside the picture: names at the points cover each other where rankers are alike.
        figure.legend(loc="outside right center", frameon=False)
    _save(figure, path)


def _panels(count: int, width: float = 4.0) -> tuple[Figure, list[Any]]:
    # The object interface: pyplot keeps every figure open and picks a backend for screens.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, 3.4), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="0.9")
        axis.set_axisbelow(True)
    return figure, axes


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
