"""Pictures of trainings and teachers for the record: curves, score histograms, margins; drawn once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stillhouse.artifacts import cached_folder, stable_hash
from stillhouse.evaluation import figures
from stillhouse.evaluation.diagnostics import ScoreSpread, score_spread
from stillhouse.evaluation.measures import Qrels, named_qrels
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model, TeacherFile
from stillhouse.records import Run
from stillhouse.training.evaluations import read_scores

_VERSION = 1
TEACHER_QUERIES = 1000
"""Training queries whose teacher scores are drawn: a histogram needs no more."""


def training_pictures(context: Context, name: str, model: Model) -> Path | None:
    """A folder of pictures of one training; None where it measured nothing on the way.

    `curves.png`: the measure that selects, on dev and, with `evaluation.train_queries`, on train queries (Menon et al.,
    Figures 1 and 4). With `evaluation.score_queries`: `scores.png` and `scores-centred.png`, relevant and other
    documents at the start, in the middle and at the end, and `margins.png` (Figures 2 and 5 to 8).
    """
    points, kept = model.evaluations(), read_scores(model.path)
    if not points:
        return None
    measure = context.recipe.evaluation.select_by
    folder = context.root / "pictures" / stable_hash([_VERSION, model.key, name, measure])

    def build(target: Path) -> dict[str, Any]:
        figures.learning_curves(curves(points, measure), target / "curves.png", measure)
        spreads = stage_spreads(kept, named_qrels(context.collection, "dev"))
        if spreads:
            figures.score_histograms(spreads, target / "scores.png", centred=False)
            figures.score_histograms(spreads, target / "scores-centred.png")
            figures.margin_histogram(spreads, target / "margins.png")
        return {"name": name}

    cached_folder(folder, build)
    return folder


def curves(points: list[dict[str, float]], measure: str) -> dict[str, list[tuple[float, float]]]:
    """Label -> (step, value), of dev and train queries."""
    found = {}
    for label, key in (("dev", measure), ("train", f"train/{measure}")):
        line = [(point["step"], point[key]) for point in points if key in point]
        if line:
            found[label] = line
    return found


def stage_spreads(kept: Mapping[int, Run], qrels: Qrels) -> list[ScoreSpread]:
    """The scores kept at the start, in the middle and at the end; fewer where fewer were kept."""
    steps = sorted(kept)
    chosen = dict.fromkeys([steps[0], steps[len(steps) // 2], steps[-1]]) if steps else {}
    return [score_spread(f"step {step:,}", kept[step], qrels) for step in chosen]


def teacher_picture(context: Context, scores: TeacherFile | None) -> Path | None:
    """Distribution of a teacher's margins on training queries (Hofstaetter et al., Figure 3); None without a teacher.

    Of the scores that students learn from: for several teachers their mean.
    """
    if scores is None:
        return None
    folder = context.root / "pictures" / stable_hash([_VERSION, "teacher", scores.key])

    def build(target: Path) -> dict[str, Any]:
        spread = score_spread("teacher", teacher_run(context, scores.path), named_qrels(context.collection, "train"))
        figures.margin_histogram([spread], target / "teacher-margins.png")
        figures.score_histograms([spread], target / "teacher-scores.png", centred=False)
        return spread.summary()

    cached_folder(folder, build)
    return folder


def teacher_run(context: Context, path: Path) -> Run:
    """The scores of the first training queries of a file, by ids; pairs without a score are left out."""
    table = pq.read_table(path)
    query_rows, doc_rows, values = (table[name].to_numpy() for name in ("query_row", "doc_row", "score"))
    chosen = (query_rows < TEACHER_QUERIES) & ~np.isnan(values)
    queries, docs = context.collection.splits["train"].queries.ids, context.collection.docs.ids
    run: Run = {}
    for query, doc, value in zip(query_rows[chosen], doc_rows[chosen], values[chosen], strict=True):
        run.setdefault(queries[query], {})[docs[doc]] = float(value)
    return run
