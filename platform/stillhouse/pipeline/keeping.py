"""The models of a search's best trials in MLflow: rankers within a budget, pictures, per-query measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stillhouse.artifacts import stable_hash, write_json
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.diagnostics import training_pictures
from stillhouse.pipeline.models import Model
from stillhouse.search.keeping import best_finished, ranker_of
from stillhouse.search.record import StudyResult, Trial
from stillhouse.search.space import SearchSpace
from stillhouse.tracking import Tracker
from stillhouse.training.evaluations import LINES, PER_QUERY

KEPT = "kept.json"
"""In a trial's folder: what of it is in MLflow, and under which run."""
MIB = 2**20


def keep_best(context: Context, study: StudyResult, space: SearchSpace, tracker: Tracker) -> None:
    """Send what the best finished trials left to their runs; what is there already is not sent again.

    Rankers go best first while they fit `search.keep_models_mib`; which do not, a line and the tag `model` say.
    """
    spec = context.recipe.search
    if spec is None or spec.keep_models == 0:
        return
    room = spec.keep_models_mib * MIB
    with context.step("keep the best trials"):
        for trial in best_finished(study.trials, space, spec.keep_models):
            ranker = ranker_of(context.root, trial.key)
            size = _size(ranker) if ranker else 0
            said = _left_out(ranker, size, room, spec.keep_models_mib)
            if said:
                context.note(f"trial {trial.number}: its model is not in MLflow: {said}")
            else:
                room -= size
            _send(context, trial, ranker, said, tracker)


def _left_out(ranker: Path | None, size: int, room: float, budget_mib: float) -> str:
    """Why a ranker stays out of the record; empty if it goes in."""
    if ranker is None:
        return "it is no longer in the workspace"
    if size > room:
        return (
            f"{size / MIB:.1f} MiB, {room / MIB:.1f} left of search.keep_models_mib {budget_mib:g}; it lies in {ranker}"
        )
    return ""


def _send(context: Context, trial: Trial, ranker: Path | None, left_out: str, tracker: Tracker) -> None:
    """Pictures, curves and per-query measures, and the ranker if it fits; noted when all of it has arrived."""
    if trial.run_id is None:
        return
    note = context.root / "trials" / trial.key / KEPT
    content = {"run": trial.run_id, "model": left_out or "ranker"}
    if note.exists() and json.loads(note.read_text()) == content:
        return
    if ranker is not None:
        pictures = training_pictures(context, f"trial {trial.number}", trained(trial, ranker))
        for picture in sorted(pictures.glob("*.png")) if pictures else ():
            tracker.artifact(trial.run_id, picture, "figures")
        for name in (*LINES, PER_QUERY):
            if (ranker / name).exists():
                tracker.artifact(trial.run_id, ranker / name)
        if not left_out:
            tracker.artifact(trial.run_id, ranker, "ranker")
    tracker.tag(trial.run_id, {"stillhouse.model": content["model"]})
    write_json(note, content)


def trained(trial: Trial, ranker: Path) -> Model:
    """A trial's ranker as the model of a training."""
    facts: dict[str, Any] = {"name": f"trial {trial.number}"}
    return Model(stable_hash(["trial", trial.key]), ranker, facts)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
