"""The report as one HTML page that asks nothing of the network, and as Markdown with its pictures beside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from stillhouse.artifacts import atomic_file
from stillhouse.comparison.content import Content, Picture
from stillhouse.comparison.svg import DRAWING, PALETTE, to_text


def write_page(content: Content, file: Path) -> list[Path]:
    """Write `file` (HTML), the same as `.md`, and its pictures into `<name>_files/`; returns what was written.

    Texts of the collection are escaped everywhere, and the page's content policy lets nothing load or run.
    """
    markdown, folder = file.with_suffix(".md"), file.with_name(f"{file.stem}_files")
    write_pictures(content.pictures, folder)
    for path, text in ((file, html(content)), (markdown, as_markdown(content, folder.name))):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [file, markdown, folder]


def write_pictures(pictures: Sequence[Picture], folder: Path) -> None:
    """Every picture as an SVG file with its colours; what was in the folder goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for picture in pictures:
        (folder / f"{picture.key}.svg").write_text(to_text(picture.drawing, alone=True), encoding="utf-8")


def html(content: Content) -> str:
    """The page; it holds all its pictures."""
    pictures = {picture.key: to_text(picture.drawing) for picture in content.pictures}
    return (
        environment(escaped=True)
        .get_template("page.html.j2")
        .render(content=content, pictures=pictures, palette=PALETTE, drawing=DRAWING)
    )


def as_markdown(content: Content, folder: str) -> str:
    """The same as Markdown; pictures are linked in `folder`."""
    return tidy(environment(escaped=False).get_template("page.md.j2").render(content=content, folder=folder))


def tidy(text: str) -> str:
    """Markdown without the empty lines that a template leaves."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def in_markdown(text: str) -> str:
    """Text that stands for itself in Markdown, in a table cell too."""
    line = " ".join(str(text).split())
    escaped = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def place(rank: int | None) -> str:
    """Where a document stands, in words."""
    return "not ranked" if rank is None else f"rank {rank}"


def grade(value: int | None) -> str:
    """What the judges said of a document."""
    if value is None:
        return "not judged"
    return f"relevant, grade {value}" if value > 0 else f"judged not relevant, grade {value}"


def environment(*, escaped: bool) -> Environment:
    """The templates, with what they need to set text that nobody checked."""
    found = Environment(
        loader=PackageLoader("stillhouse.comparison", "templates"),
        autoescape=escaped,  # noqa: S701 (Markdown has an escape of its own, the filter `md`)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"md": in_markdown, "place": place, "grade": grade}
    return found
