"""Train the teachers, choose on dev, and score the training pairs once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import stable_hash
from stillhouse.errors import StoreError
from stillhouse.losses import LOSSES
from stillhouse.pipeline.check import searched_space
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model, TeacherFile, make_job, train_model, triples_of, untuned_model
from stillhouse.pipeline.runs import mean_of, mean_run, measure, model_run, scoring_dtype
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.tree import ScoresTeacher, StageSpec
from stillhouse.scores.ensemble import Ensemble
from stillhouse.scores.files import absolute
from stillhouse.scores.identity import identity_of
from stillhouse.scores.store import ScoreStore
from stillhouse.search.check import witnesses
from stillhouse.training.groups import scoring_pairs
from stillhouse.training.rules import drawn_depth
from stillhouse.training.teacher import write_teacher_scores
from stillhouse.training.triples import Triples


@dataclass(frozen=True)
class Teacher:
    """The teacher that was chosen: one model, or several whose raw scores are averaged."""

    name: str
    members: dict[str, Model]
    files: dict[str, ScoresTeacher | EndpointTeacher]
    """Those that rank nothing here: score files and endpoints."""
    dev: dict[str, float]


def train_teachers(context: Context, recipe: Recipe) -> dict[str, Model]:
    """Every teacher to choose from that is a ranker of ours, trained by its own stages."""
    models = {}
    for name, spec in recipe.teaching().items():
        if isinstance(spec, ScoresTeacher | EndpointTeacher):
            continue
        if spec.stages:
            models[name] = train_model(context, f"teacher {name}", make_job(context, spec, spec.stages))
        else:
            models[name] = untuned_model(context, spec)
    return models


def choose_teacher(context: Context, recipe: Recipe | None = None) -> Teacher:
    """The teacher the recipe asks for: the mean of some or all, or the best on dev of each and their mean.

    `recipe`: that of a baseline, which may ask for others; None is the context's.
    """
    recipe = recipe or context.recipe
    specs = recipe.teaching()
    if not specs:
        return Teacher("none", {}, {}, {})
    models = train_teachers(context, recipe)
    files = {name: spec for name, spec in specs.items() if isinstance(spec, ScoresTeacher | EndpointTeacher)}
    select_by = recipe.evaluation.select_by
    if files:
        if recipe.teacher_selection == "best_on_dev" and len(specs) > 1:
            raise StoreError("teacher_selection best_on_dev needs rankers: files and endpoints rank no dev; use mean")
        return Teacher("mean" if len(specs) > 1 else next(iter(files)), models, files, {})
    runs = {name: model_run(context, name, model, "dev") for name, model in models.items()}
    choices: dict[str, dict[str, Model]] = {name: {name: model} for name, model in models.items()}
    if len(models) > 1:
        runs["mean"] = mean_run(list(runs.values()))
        choices["mean"] = models
    dev = {name: mean_of(measure(context, run, "dev")[select_by]) for name, run in runs.items()}
    chosen = max(dev, key=dev.__getitem__) if recipe.teacher_selection == "best_on_dev" else list(choices)[-1]
    for name, value in dev.items():
        context.note(f"teacher {name}: dev {select_by} {value:.4f}{'  <- teaches' if name == chosen else ''}")
    return Teacher(chosen, choices[chosen], {}, dev)


def taught_stages(recipe: Recipe) -> list[StageSpec]:
    """Every stage whose groups the teacher's scores are for: the student's, the baselines' and those of trials.

    A search can vary the depth of groups without scoring again, so the values that decide it are looked at here.
    """
    recipes = [recipe, *(override(recipe, changes) for changes in recipe.baselines.values())]
    if recipe.search is not None:
        space, trial = searched_space(recipe)
        recipes.append(trial)
        for key, dimension in space.space.items():
            parts = key.split(".")
            if parts[0] == "stages" and (len(parts) < 3 or parts[2] == "groups"):
                found = [others | {key: value} for others in witnesses(space, key, trial) for value in dimension.ends()]
                recipes += [override(trial, point) for point in found]
    return [stage for each in recipes for stage in each.stages.values()]


def scoring_depth(recipe: Recipe) -> int:
    """How deep the teacher has to score: as deep as any stage draws from."""
    return max(drawn_depth(stage.groups, recipe.candidates.depth) for stage in taught_stages(recipe))


def scored_triples(context: Context) -> list[Triples]:
    """The triples of stages that read teacher scores."""
    stages = [stage for stage in taught_stages(context.recipe) if stage.reads_teacher()]
    return list(triples_of(context, stages).values())


def training_pairs(context: Context) -> Mapping[int, list[int]]:
    """Every training pair a group may hold and a store has to know, by query row."""
    split = context.collection.splits["train"]
    depth = scoring_depth(context.recipe)
    return scoring_pairs(split, context.candidates("train"), depth, triples=scored_triples(context))


def score_training_pairs(context: Context, teacher: Teacher, recipe: Recipe | None = None) -> TeacherFile | None:
    """Teacher scores of every training pair a group may hold; only pairs no store knows are scored.

    `recipe`: that of a baseline, None is the context's. None is returned where there is no teacher.
    """
    if not teacher.members and not teacher.files:
        return None
    collection = context.collection
    depth = scoring_depth(context.recipe)
    pairs = training_pairs(context)
    query_rows = np.asarray([query for query, docs in pairs.items() for _ in docs], dtype=np.int32)
    doc_rows = np.asarray([doc for docs in pairs.values() for doc in docs], dtype=np.int32)
    stores = [_filled(context, name, model, query_rows, doc_rows) for name, model in teacher.members.items()]
    for name, spec in teacher.files.items():
        if isinstance(spec, EndpointTeacher):
            stores.append(_asked(context, name, spec, query_rows, doc_rows))
        else:
            stores.append(_imported(context, spec))
    ensemble = Ensemble(stores)
    for stage in (recipe or context.recipe).stages.values():
        for loss in (stage.loss, *stage.extra_losses.values()):
            if loss.name in LOSSES:
                LOSSES[loss.name].check_scale(ensemble.scale)
    # Triples come after what was always there, so that the name of a file without them stays.
    digests = [triples.digest for triples in scored_triples(context)]
    key = stable_hash([ensemble.key, collection.digest, context.candidates("train").key, depth, *digests])
    file = context.root / "teacher" / f"{key}.parquet"
    if not file.exists():
        values = ensemble.lookup(*_hashes(context, query_rows, doc_rows))
        missing = int(np.isnan(values).sum())
        if missing:
            context.note(f"{missing:,} of {len(values):,} training pairs have no teacher score; losses leave them out")
        write_teacher_scores(file, [(query_rows, doc_rows, values)])
    by_store = {store.key: model.path for store, model in zip(stores, teacher.members.values(), strict=False)}
    models = () if teacher.files else tuple(by_store[store.key] for store in ensemble.stores)
    return TeacherFile(file, key, tuple(store.key for store in stores), models, dtype_name(context))


def _filled(context: Context, name: str, model: Model, query_rows: np.ndarray, doc_rows: np.ndarray) -> ScoreStore:
    """The store of one teacher; what it lacks of the pairs is scored first."""
    store = teacher_store(context, model)
    store.mending = True
    if np.isnan(store.lookup(*_hashes(context, query_rows, doc_rows))).any():
        _fill(context, name, store, model, pa.table({"query_row": query_rows, "doc_row": doc_rows}))
    if store.set_aside:
        context.note(f"corrupt files set aside, their pairs scored again: {', '.join(store.set_aside)}")
    return store


def _asked(
    context: Context, name: str, spec: EndpointTeacher, query_rows: np.ndarray, doc_rows: np.ndarray
) -> ScoreStore:
    """The store of a teacher behind an endpoint; what it lacks of the pairs is asked for first."""
    from stillhouse.scores.ask import ask_pairs

    store = ScoreStore(absolute(context.recipe.store.path), spec.identity(), context.recipe.store.partitions)
    with context.step(f"ask teacher {name}") as advance:
        if context.recipe.store.actors != 0:
            context.ray()

        def progress(done: int, total: int, info: dict[str, Any]) -> None:
            advance(done, total, f"{info['pairs_per_second']:.1f} pairs/s, {info['truncated_share']:.1%} truncated")

        pairs = pa.table({"query_row": query_rows, "doc_row": doc_rows})
        report = ask_pairs(
            store,
            spec,
            context.collection,
            "train",
            pairs,
            in_process=context.recipe.store.actors == 0,
            progress=progress,
            parity_check=context.recipe.store.parity_check,
            parity_tolerance=context.recipe.store.parity_tolerance,
        )
    if report.parity:
        context.note(f"parity with {spec.compare_with}, {report.parity}")
    context.note(f"{report.scored:,} pairs asked of {spec.model}, {report.reused:,} reused")
    return store


def _imported(context: Context, spec: ScoresTeacher) -> ScoreStore:
    """A score file as a store of its own."""
    from stillhouse.scores.exchange import import_scores

    root = absolute(context.recipe.store.path)
    imported = import_scores(Path(spec.scores), root, context.collection, scale=spec.scale)
    if imported.unknown:
        context.note(f"{spec.scores}: {imported.unknown:,} lines name a query or document that is not here")
    return imported.store


def _hashes(context: Context, query_rows: np.ndarray, doc_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    queries, docs = context.collection.splits["train"].queries.hashes, context.collection.docs.hashes
    return queries.digits[query_rows], docs.digits[doc_rows]


def teacher_store(context: Context, model: Model) -> ScoreStore:
    """The store of a teacher's scores, by the teacher's identity on the device that scores."""
    from stillhouse.rankers import load_ranker

    dtype = dtype_name(context)
    identity = identity_of(load_ranker(model.path), dtype, context.device())
    return ScoreStore(absolute(context.recipe.store.path), identity, context.recipe.store.partitions)


def dtype_name(context: Context) -> Any:
    """`float32` or `bfloat16`, as the recipe's store asks for it here."""
    return str(scoring_dtype(context.recipe.store.dtype)).removeprefix("torch.")


def _fill(context: Context, name: str, store: ScoreStore, model: Model, pairs: pa.Table) -> None:
    from stillhouse.scores.pipeline import score_pairs

    with context.step(f"score pairs with teacher {name}") as advance:
        if context.recipe.store.actors != 0:
            context.ray()

        def progress(done: int, total: int, info: dict[str, Any]) -> None:
            rates = sorted(info["actors"].values())
            actors = f", {len(rates)} actors at {rates[0]:.0f} to {rates[-1]:.0f}" if rates else ""
            share = f"{info['truncated_share']:.1%} truncated"
            advance(done, total, f"{info['pairs_per_second']:.0f} pairs/s{actors}, {share}")

        report = score_pairs(
            store,
            model.path,
            context.collection,
            "train",
            pairs,
            dtype=dtype_name(context),
            num_actors=context.recipe.store.actors,
            progress=progress,
            parity_check=context.recipe.store.parity_check,
            parity_tolerance=context.recipe.store.parity_tolerance,
        )
    if report.parity:
        context.note(f"parity with float32 on a CPU, {report.parity}")
    context.note(
        f"{report.scored:,} pairs scored, {report.reused:,} reused, {report.pairs_per_second:.0f} pairs/s, "
        f"{report.truncated_share:.1%} truncated"
    )
