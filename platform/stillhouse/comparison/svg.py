"""Small parts of an SVG picture. Text is set by the XML library, so whatever a name holds is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from stillhouse.comparison.axes import Axis, labels

WIDTH = 620
LEFT, RIGHT = 62, 14
NAMESPACE = "http://www.w3.org/2000/svg"
STYLES = 7
"""Different series; later ones repeat them."""
DASHES = ("", "8 4", "2 3", "10 3 2 3", "14 4", "5 2 1 2 1 2", "1 5")
MARKERS = (
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "M0,-6L5.5,4.5H-5.5Z",
    "M0,-6L6,0L0,6L-6,0Z",
    "M0,6L5.5,-4.5H-5.5Z",
    "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "M-6,-3L-3,-6L0,-3L3,-6L6,-3L3,0L6,3L3,6L0,3L-3,6L-6,3L-3,0Z",
)
PALETTE = """
:root { --ink: #1a1a1a; --soft: #575757; --line: #d4d4d4; --paper: #ffffff; --band: #f4f4f2; --link: #0a5a9c;
  --c0: #0068a8; --c1: #b34a00; --c2: #00735a; --c3: #a0407f; --c4: #806000; --c5: #4b4fb5; --c6: #333333; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --soft: #b3b3b3; --line: #464646; --paper: #17181a;
  --band: #222427; --link: #8cc4ff; --c0: #6fbdf5; --c1: #ff9d61; --c2: #52d6b0; --c3: #f0a3d4; --c4: #f0c651;
  --c5: #b0b4ff; --c6: #e0e0e0; } }
"""
DRAWING = """
svg text { fill: var(--ink); font: 14px system-ui, sans-serif; }
svg .halo { stroke: var(--paper); stroke-width: 4; stroke-linejoin: round; paint-order: stroke; }
svg .soft { fill: var(--soft); font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .curve { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
svg .area { fill: var(--c); fill-opacity: 0.3; stroke: var(--c); stroke-width: 1.5; }
svg .outline { fill: none; stroke: var(--c); stroke-width: 2; stroke-dasharray: 5 3; }
svg .thread { fill: none; stroke: var(--c); stroke-width: 1.2; stroke-opacity: 0.6; }
svg .chance { stroke: var(--ink); stroke-width: 3; }
svg .full { fill: var(--c); stroke: var(--c); stroke-width: 1.5; }
svg .hollow { fill: var(--paper); stroke: var(--c); stroke-width: 2; }
""" + "\n".join(f"svg .s{index} {{ --c: var(--c{index}); }}" for index in range(STYLES))


def drawing(height: float, title: str, about: str) -> Element:
    """An empty picture with a name and a description for those who do not see it."""
    root = Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "xmlns": NAMESPACE})
    root.set("aria-label", f"{title}. {about}")
    SubElement(root, "title").text = title
    SubElement(root, "desc").text = about
    return root


def text(
    parent: Element,
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    soft: bool = False,
    halo: bool = False,
) -> Element:
    """A line of text; `anchor` is start, middle or end; `halo` keeps what lies under it away."""
    kind = " ".join(name for name, wanted in (("soft", soft), ("halo", halo)) if wanted)
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor} | ({"class": kind} if kind else {})
    element = SubElement(parent, "text", attributes)
    element.text = words
    return element


def line(parent: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(parent, "line", {name: f"{value:.1f}" for name, value in places.items()} | {"class": kind})


def curve(parent: Element, places: Sequence[tuple[float, float]], kind: str, dash: str = "") -> None:
    """A line through pixels."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    SubElement(parent, "polyline", {"points": points, "class": kind} | ({"stroke-dasharray": dash} if dash else {}))


def marker(parent: Element, x: float, y: float, index: int, *, hollow: bool = False, scale: float = 1.0) -> None:
    """The sign of series `index`: shape and colour both tell it from the others."""
    kind = f"s{index % STYLES} {'hollow' if hollow else 'full'}"
    place = f"translate({x:.1f} {y:.1f})" + (f" scale({scale:.2f})" if scale != 1 else "")
    SubElement(parent, "path", {"d": MARKERS[index % STYLES], "transform": place, "class": kind})


Ticks = Sequence[tuple[float, str]]
"""Pixels and their labels."""


def frame(
    parent: Element,
    x: Axis,
    y: Axis,
    xlabel: str,
    ylabel: str,
    *,
    count: int = 5,
    columns: Ticks | None = None,
    rows: Ticks | None = None,
) -> None:
    """Grid, ticks and names of both axes; `y` runs from the lower pixel to the upper one.

    `columns` and `rows` stand in the place of the axes' own round numbers.
    """
    for place, label in _named(y, y.ticks(count)) if rows is None else rows:
        line(parent, x.start, place, x.end, place, "grid")
        text(parent, x.start - 8, place + 4.5, label, anchor="end", soft=True)
    for place, label in _named(x, x.ticks()) if columns is None else columns:
        line(parent, place, y.start, place, y.start + 5, "axis")
        text(parent, place, y.start + 20, label, anchor="middle", soft=True)
    line(parent, x.start, y.start, x.end, y.start, "axis")
    text(parent, (x.start + x.end) / 2, y.start + 40, xlabel, anchor="middle")
    text(parent, 4, y.end - 12, ylabel)


def _named(axis: Axis, values: Sequence[float]) -> list[tuple[float, str]]:
    named = [f"{value:g}" for value in values] if axis.log else labels(values)
    return [(axis.place(value), label) for value, label in zip(values, named, strict=True)]


def shorten(name: str, limit: int = 62) -> str:
    """A name that fits on a line of a legend."""
    return name if len(name) <= limit else f"{name[: limit - 3]}..."


def to_text(root: Element, *, alone: bool = False) -> str:
    """The picture as text; `alone` puts the colours in, for a file of its own."""
    if alone:
        style = Element("style")
        style.text = PALETTE + DRAWING + "svg { background: var(--paper); }"
        root.insert(0, style)
    found = ElementTree.tostring(root, encoding="unicode")
    if alone:
        root.remove(root[0])
    return found
