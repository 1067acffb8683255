"""The pictures of the report. Shape, dash or hatching tells series apart wherever colour does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from stillhouse.comparison import svg
from stillhouse.comparison.axes import Axis, widened
from stillhouse.evaluation.diagnostics import ScoreSpread

Points = Sequence[tuple[float, float]]
BINS = 32
MOST_POINTS = 150
"""Of a curve; more are averaged over equal stretches of steps."""
_ROW = 22
_TOP, _BELOW = 34, 52


def effectiveness_latency(points: Sequence[tuple[str, float, float | None, float]], measure: str) -> Element:
    """Rankers as (name, median ms, median ms with cached documents, value): up and to the left is better."""
    times = [time for _, ms, cached, _ in points for time in (ms, cached) if time]
    values = [value for *_, value in points]
    about = "; ".join(f"{name}: {ms:.1f} ms, {measure} {value:.4f}" for name, ms, _, value in points)
    root = svg.drawing(_TOP + 240 + _BELOW + (len(points) + 1) * _ROW + 8, f"{measure} over latency", about)
    x = Axis(min(times) / 1.4, max(times) * 1.4, svg.LEFT, svg.WIDTH - svg.RIGHT, log=True)
    y = Axis(*widened(min(values), max(values), 0.15), _TOP + 240, _TOP)
    svg.frame(root, x, y, "median latency of one query, ms (logarithmic)", measure)
    for index, (_, ms, cached, value) in enumerate(points):
        if cached:
            places = [(x.place(cached), y.place(value)), (x.place(ms), y.place(value))]
            svg.curve(root, places, f"s{index % svg.STYLES} curve", "2 4")
            svg.marker(root, *places[0], index, hollow=True)
        svg.marker(root, x.place(ms), y.place(value), index)
    top = _TOP + 240 + _BELOW + 6
    for index, (name, ms, cached, value) in enumerate(points):
        svg.marker(root, svg.LEFT + 8, top + index * _ROW, index)
        stored = f" ({cached:.1f} ms cached)" if cached else ""
        words = f"{svg.shorten(name, 36)}: {ms:.1f} ms{stored}, {value:.4f}"
        svg.text(root, svg.LEFT + 24, top + index * _ROW + 5, words)
    if any(cached for _, _, cached, _ in points):
        note = "hollow: document representations computed before the query"
        svg.text(root, svg.LEFT, top + len(points) * _ROW + 5, note, soft=True)
    return root


def lines(
    series: Mapping[str, Points],
    xlabel: str,
    ylabel: str,
    title: str,
    *,
    height: float = 230,
    zero: bool = False,
    markers: bool = True,
) -> Element:
    """Values over x: name -> (x, y); `zero` draws a line at x = 0."""
    kept = {name: thinned(points) for name, points in series.items() if len(points)}
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y for points in kept.values() for _, y in points]
    about = "; ".join(f"{name}: from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in kept.items())
    named = len(kept) > 1
    root = svg.drawing(_TOP + height + _BELOW + named * len(kept) * _ROW, title, about)
    across = Axis(
        *((min(xs), max(xs)) if max(xs) > min(xs) else widened(xs[0], xs[0])), svg.LEFT, svg.WIDTH - svg.RIGHT
    )
    up = Axis(*widened(min(ys), max(ys)), _TOP + height, _TOP)
    svg.frame(root, across, up, xlabel, ylabel)
    if zero:
        svg.line(root, across.place(0), up.start, across.place(0), up.end, "axis")
    for index, (name, points) in enumerate(kept.items()):
        style, dash = f"s{index % svg.STYLES} curve", svg.DASHES[index % svg.STYLES]
        places = [(across.place(x), up.place(y)) for x, y in points]
        svg.curve(root, places, style, dash)
        # A few along a long curve are enough to know it by, each series at steps of its own.
        stride = max(1, len(places) // 8)
        for place in places[index * stride // len(kept) :: stride] if markers else ():
            svg.marker(root, *place, index)
        if not named:
            continue
        row = _TOP + height + _BELOW + 6 + index * _ROW
        svg.curve(root, [(svg.LEFT, row), (svg.LEFT + 44, row)], style, dash)
        svg.text(root, svg.LEFT + 54, row + 5, svg.shorten(name))
        if markers:
            svg.marker(root, svg.LEFT + 22, row, index)
    return root


def histograms(spreads: Sequence[ScoreSpread], *, centred: bool) -> Element:
    """One panel per ranker: its scores of relevant documents (filled) and of all others (dashed outline).

    As they are, each panel has an axis of its own. `centred` takes each ranker's mean score off and divides by the
    standard deviation, so that rankers of any scale stand on one axis.
    """
    scaled = [_scaled(spread, centred) for spread in spreads]
    title = "Scores, centred and in standard deviations" if centred else "Scores as they are"
    about = "; ".join(_describe(spread) for spread in spreads)
    height, gap = 90, 74
    root = svg.drawing(44 + len(spreads) * (height + gap), title, about)
    _histogram_legend(root)
    shared = _bins([part for parts in scaled for part in parts])
    for index, (spread, (positives, negatives)) in enumerate(zip(spreads, scaled, strict=True)):
        top = 44 + index * (height + gap)
        bins = shared if centred else _bins([positives, negatives])
        shares = [_shares(negatives, bins), _shares(positives, bins)]
        x = Axis(float(bins[0]), float(bins[-1]), svg.LEFT, svg.WIDTH - svg.RIGHT)
        y = Axis(0, max(1e-9, *(float(share.max()) for share in shares)) * 1.08, top + 24 + height, top + 24)
        svg.frame(root, x, y, "", "", count=2)
        svg.text(root, svg.LEFT, top + 12, svg.shorten(spread.name, 70))
        for share, style in zip(shares, ("s1 outline", "s0 area"), strict=True):
            svg.curve(root, _steps(share, bins, x, y), style)
    return root


def margins(spreads: Sequence[ScoreSpread]) -> Element:
    """Margins (s(q, d+) - s(q, d-)) / range of all rankers over each other; right of 0 the order is right."""
    bins = np.linspace(-1, 1, 41)
    middles = (bins[1:] + bins[:-1]) / 2
    series = {
        f"{spread.name}: {spread.pairwise_accuracy:.1%} of pairs right": list(
            zip(middles.tolist(), _shares(spread.margins, bins).tolist(), strict=True)
        )
        for spread in spreads
        if len(spread.margins)
    }
    return lines(series, "margin / score range", "share of pairs", "Normalised margins", zero=True)


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS points: means of equal numbers of neighbours, so that no peak between is lost unseen."""
    if len(points) <= MOST_POINTS:
        return [(float(x), float(y)) for x, y in points]
    parts = np.array_split(np.asarray(points, dtype=np.float64), MOST_POINTS)
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]


def _scaled(spread: ScoreSpread, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    if not centred:
        return spread.positives, spread.negatives
    deviation = float(np.concatenate([spread.positives, spread.negatives]).std()) or 1.0
    return (spread.positives - spread.offset) / deviation, (spread.negatives - spread.offset) / deviation


def _bins(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Equal bins over the middle 98 % of every part: a few scores far out would press all others into one bar."""
    ends = [np.quantile(part, (0.01, 0.99)) for part in parts if len(part)]
    low, high = (float(min(end[0] for end in ends)), float(max(end[1] for end in ends))) if ends else (-1.0, 1.0)
    return np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 1, low + 1, BINS + 1)


def _shares(scores: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Shares, not counts: relevant documents are few. The first and the last bin hold what lies beyond."""
    counts, _ = np.histogram(np.clip(scores, bins[0], bins[-1]), bins)
    return counts / max(1, len(scores))


def _steps(share: np.ndarray, bins: np.ndarray, x: Axis, y: Axis) -> list[tuple[float, float]]:
    places = [(x.place(float(bins[0])), y.place(0))]
    for index, value in enumerate(share):
        places += [(x.place(float(edge)), y.place(float(value))) for edge in bins[index : index + 2]]
    return [*places, (x.place(float(bins[-1])), y.place(0))]


def _histogram_legend(root: Element) -> None:
    for start, style, words in ((svg.LEFT, "s0 area", "relevant"), (svg.LEFT + 130, "s1 outline", "others")):
        SubElement(root, "rect", {"x": f"{start}", "y": "6", "width": "28", "height": "14", "class": style})
        svg.text(root, start + 36, 18, words)
    svg.text(root, svg.WIDTH - svg.RIGHT, 18, "up: share of the documents of each kind", anchor="end", soft=True)


def _describe(spread: ScoreSpread) -> str:
    parts = [
        f"{name} {len(scores)} documents, mean {float(scores.mean()):.4g}"
        for name, scores in (("relevant", spread.positives), ("others", spread.negatives))
        if len(scores)
    ]
    return f"{spread.name}: {', '.join(parts) or 'no documents'}"
