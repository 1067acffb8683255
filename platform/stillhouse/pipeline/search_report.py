"""The report of a search: of one that has just ended, and of any study that is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from stillhouse.artifacts import write_json
from stillhouse.comparison.entrants import Section
from stillhouse.errors import SearchError
from stillhouse.pipeline.confirming import confirm
from stillhouse.pipeline.context import Context, workspace
from stillhouse.pipeline.models import TeacherFile
from stillhouse.pipeline.recording import Recorder, environment
from stillhouse.recipe import Recipe
from stillhouse.search.question import read_question
from stillhouse.search.record import StudyFolder, StudyResult
from stillhouse.study_report import Study, StudyContent, build_content, write_page
from stillhouse.study_report.confirmation import Confirmation, from_plain
from stillhouse.study_report.provenance import recipe_section, search_section

PAGE = "search.html"
CONFIRMATION = "confirmation.json"
PROVENANCE = "provenance.json"
"""Both in the study's folder, for reports that are written later."""


def report_search(
    context: Context, recorder: Recorder, winner: Recipe, study: StudyResult, scores: TeacherFile | None
) -> StudyContent:
    """Confirm the winner where the recipe asks for it; write `search.*` to the output folder and to the record."""
    folder = StudyFolder(context.root, study.name)
    confirmation = confirm(context, recorder, winner, scores)
    if confirmation is not None:
        write_json(folder.path / CONFIRMATION, confirmation.plain(), sort_keys=False)
    sections = [_data(context, scores), _machine()]
    write_json(folder.path / PROVENANCE, [asdict(section) for section in sections], sort_keys=False)
    with context.step("search report"):
        content = _content(folder, confirmation, sections)
        *files, pictures = write_page(content, context.output / PAGE)
    for file in files:
        recorder.tracker.artifact(recorder.parent, file, "search")
    recorder.tracker.artifact(recorder.parent, pictures, f"search/{pictures.name}")
    _show(content, files[0], context.console)
    return content


def report_study(name: str | None, output: Path, *, console: Console, root: Path | None = None) -> StudyContent:
    """Write the report of a study that is kept, finished or not, from what lies in its folder."""
    folder = find_study(name, root or workspace())
    confirmed, provenance = folder.path / CONFIRMATION, folder.path / PROVENANCE
    content = _content(
        folder,
        from_plain(json.loads(confirmed.read_text())) if confirmed.exists() else None,
        [Section(**one) for one in json.loads(provenance.read_text())] if provenance.exists() else [],
    )
    _show(content, write_page(content, output)[0], console)
    return content


def find_study(name: str | None, root: Path) -> StudyFolder:
    """A study by its folder, its id or the beginning of it; without a name the only one there is."""
    if name is not None and (Path(name) / "trials").is_dir():
        path = Path(name).absolute()
        return StudyFolder(path.parents[1], path.name)
    known = sorted(path.name for path in (root / "studies").glob("*") if (path / "trials").is_dir())
    found = [one for one in known if one.startswith(name or "")]
    if len(found) != 1:
        there = ", ".join(_named(root, one) for one in found or known) or "none"
        asked = "which study" if name is None else f"study {name}: {len(found)} of that name"
        raise SearchError(f"{asked}; give the id, or the beginning of it, of one of: {there} (under {root})")
    return StudyFolder(root, found[0])


def _named(root: Path, name: str) -> str:
    try:
        return f"{name} ({read_question(root / 'studies' / name).recipe.name})"
    except SearchError:
        return name


def _content(folder: StudyFolder, confirmation: Confirmation | None, sections: Sequence[Section]) -> StudyContent:
    recipe, space = read_question(folder.path)
    every = [search_section(folder.name, space), *sections, recipe_section(recipe)]
    trials, seconds = folder.trials(), float(folder.facts().get("seconds", 0.0))
    title = f"Search {recipe.name}"
    return build_content(Study(folder.name, title, space, recipe, trials, seconds, confirmation, every))


def _data(context: Context, scores: TeacherFile | None) -> Section:
    collection, spec = context.collection, context.recipe.collection
    counts = {name: f"{len(split.queries):,} queries" for name, split in collection.splits.items()}
    return Section(
        "Data",
        {name: f"{getattr(spec, name)}, {count}" for name, count in counts.items()}
        | {
            "documents": f"{len(collection.docs):,}",
            "collection digest": collection.digest,
            "candidates": f"{context.recipe.candidates.source}, depth {context.recipe.candidates.depth}",
            "score stores": ", ".join(scores.stores) if scores and scores.stores else "none",
        },
    )


def _machine() -> Section:
    found = environment()
    facts = {"commit": found["commit"] or "unknown"} | found["versions"]
    return Section("Machine", facts | {name: str(value) for name, value in found["hardware"].items()})


def _show(content: StudyContent, page: Path, console: Console) -> None:
    for sentence in content.summary:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"The report of the search is {page}, also as .md and .json.", highlight=False, markup=False)
