"""The best student in MLflow's model registry, under the recipe's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stillhouse.artifacts import file_digest, stable_hash
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.keeping import KEPT
from stillhouse.pipeline.provenance import data_tags
from stillhouse.search.keeping import ranker_of
from stillhouse.search.record import StudyResult
from stillhouse.tracking.registry import Registered, register_ranker
from stillhouse.training.evaluations import PER_QUERY

NOT_THE_RANKER = ("done.json", KEPT, PER_QUERY)
"""JSON files beside a ranker that its scores do not depend on."""


def register_student(context: Context, run_id: str, ranker: Path, tags: Mapping[str, str]) -> Registered | None:
    """Register a ranker under the recipe's name, with what it was trained on; None where nothing is recorded."""
    recipe = context.recipe
    if recipe.tracking.uri == "none":
        return None
    with context.step("register the student"):
        found = register_ranker(
            recipe.tracking.uri,
            run_id,
            ranker,
            recipe.name,
            content=content_of(ranker),
            tags=data_tags(context) | {"stillhouse.recipe": recipe.name} | dict(tags),
            example=example_rows(context),
        )
    context.note(f"registered as {found.uri}")
    return found


def register_best_trial(context: Context, study: StudyResult) -> Registered | None:
    """Register the ranker of a study's best trial; None where it was not kept or nothing is recorded."""
    best, ranker = study.best, ranker_of(context.root, study.best.key)
    if ranker is None or best.run_id is None:
        return None
    return register_student(context, best.run_id, ranker, study_tags(study))


def study_tags(study: StudyResult) -> dict[str, str]:
    """The study, its best trial and what that measured on dev."""
    best = study.best
    measured = {} if best.metric is None else {"stillhouse.dev": f"{best.metric:.6f}"}
    return {"stillhouse.study": study.name, "stillhouse.trial": str(best.number), **measured}


def content_of(ranker: Path) -> str:
    """Digest of what decides a ranker's scores: weights, options, tokenizer; not its card, not its curves."""
    files = [path for path in ranker.rglob("*") if path.suffix in (".safetensors", ".json", ".txt", ".model")]
    names = {path.relative_to(ranker).as_posix(): path for path in files if path.name not in NOT_THE_RANKER}
    return stable_hash({name: file_digest(path) for name, path in sorted(names.items())}, length=32)


def example_rows(context: Context) -> list[tuple[str, str]]:
    """The first dev query with candidates, and its first two."""
    candidates, split = context.candidates("dev"), context.collection.splits["dev"]
    row = next(row for row in range(len(candidates)) if len(candidates.rows(row)))
    docs = context.collection.docs.texts(candidates.rows(row)[:2].tolist())
    return [(split.queries.text(row), doc) for doc in docs]
