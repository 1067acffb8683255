"""The report of a search in three shapes: HTML that asks nothing of the network, Markdown with pictures, JSON."""

from __future__ import annotations

from pathlib import Path

from stillhouse.artifacts import atomic_file, write_json
from stillhouse.comparison.page import environment, tidy, write_pictures
from stillhouse.comparison.svg import DRAWING, PALETTE, to_text
from stillhouse.study_report.content import StudyContent


def write_page(content: StudyContent, file: Path) -> list[Path]:
    """Write `file` (HTML), the same as `.md` and `.json`, and its pictures into `<name>_files/`; returns them all."""
    markdown, data, folder = file.with_suffix(".md"), file.with_suffix(".json"), file.with_name(f"{file.stem}_files")
    write_pictures(content.pictures, folder)
    for path, text in ((file, html(content)), (markdown, as_markdown(content, folder.name))):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(data, dict(content.data), sort_keys=False)
    return [file, markdown, data, folder]


def html(content: StudyContent) -> str:
    """The page; it holds all its pictures."""
    pictures = {picture.key: to_text(picture.drawing) for picture in content.pictures}
    page = environment(escaped=True).get_template("study.html.j2")
    return page.render(content=content, pictures=pictures, palette=PALETTE, drawing=DRAWING)


def as_markdown(content: StudyContent, folder: str) -> str:
    """The same as Markdown; pictures are linked in `folder`."""
    return tidy(environment(escaped=False).get_template("study.md.j2").render(content=content, folder=folder))
