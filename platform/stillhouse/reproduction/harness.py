"""`stillhouse reproduce`: every row of every experiment for every seed; what is done is read, not repeated."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stillhouse.artifacts import write_json
from stillhouse.errors import RecipeError
from stillhouse.evaluation.significance import compare
from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.run import prepare
from stillhouse.pipeline.runs import scoring_dtype
from stillhouse.recipe import Recipe, load_recipe, override
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.tree import ScoresTeacher
from stillhouse.reproduction.papers import EXPERIMENTS, STUDENT, Claim, Experiment
from stillhouse.reproduction.results import Result, Results

FIRST_STAGE, TEACHER = "first stage", "teacher"


def reproduce(
    experiments: Mapping[str, Experiment],
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Train and measure every row; returns the summary: experiment -> seeds, rows, comparisons.

    Seeds are the outer loop, so that one seed of everything is there first. Results lie in `folder`, one file each.
    """
    results = Results(folder)
    found: dict[str, dict[str, list[Result]]] = {name: {} for name in experiments}
    for seed in seeds:
        for name, recipe in recipes.items():
            for row, result in _rows(
                override(recipe, {"seed": seed}), results, console, f"{name}, seed {seed}"
            ).items():
                found[name].setdefault(row, []).append(result)
    return {name: summary(experiments[name], recipes[name], found[name], seeds) for name in experiments}


def shipped(names: Sequence[str] = ()) -> tuple[dict[str, Experiment], dict[str, Recipe]]:
    """The experiments asked for (none: all) and their recipes, checked before anything is spent."""
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise RecipeError(f"{unknown[0]}: no such experiment; there are {', '.join(EXPERIMENTS)}")
    chosen = {name: one for name, one in EXPERIMENTS.items() if not names or name in names}
    recipes = {name: load_recipe(name) for name in chosen}
    for recipe in recipes.values():
        check(recipe)
    return chosen, recipes


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The rows of an experiment: the recipe's own student, and one for each baseline."""
    return {STUDENT: recipe} | {name: override(recipe, changes) for name, changes in recipe.baselines.items()}


def _rows(recipe: Recipe, results: Results, console: Console, place: str) -> dict[str, Result]:
    measure = recipe.evaluation.select_by
    with Context(recipe, console) as context:
        prepare(context)
        rows = {FIRST_STAGE: results.first_stage(context)}
        scored_elsewhere = ScoresTeacher | EndpointTeacher
        if recipe.teaching() and not any(isinstance(spec, scored_elsewhere) for spec in recipe.teaching().values()):
            rows[TEACHER] = results.teacher(context, recipe)
        for row, one in variants(recipe).items():
            rows[row] = results.student(context, row, one)
            value = np.mean(list(rows[row]["per_query"][measure].values()))
            console.print(f"{place}, {row}: {measure} {value:.4f}", markup=False, highlight=False)
    return rows


def summary(
    experiment: Experiment, recipe: Recipe, rows: Mapping[str, Sequence[Result]], seeds: Sequence[int]
) -> dict[str, Any]:
    """Means and deviations over seeds, and the paired tests of the claims over queries."""
    measure = recipe.evaluation.select_by
    first = rows[STUDENT][0]["per_query"][measure]
    per_query = {row: _over_seeds([result["per_query"][measure] for result in found]) for row, found in rows.items()}
    pairs = [(claim.a, claim.b) for claim in experiment.claims]
    compared = compare(per_query, pairs, measure=measure)
    return {
        "seeds": list(seeds),
        "collection": recipe.collection.test,
        "measure": measure,
        "queries": len(first),
        "train_queries": recipe.collection.max_train_queries,
        "depth": recipe.evaluation.depth,
        "rows": {row: _row(found, recipe.evaluation.measures) for row, found in rows.items()},
        "comparisons": [
            asdict(comparison)
            | {"says": claim.says, "verdict": verdict(claim, comparison.difference, comparison.p_holm)}
            for claim, comparison in zip(experiment.claims, compared, strict=True)
        ],
    }


def verdict(claim: Claim, difference: float, p: float, alpha: float = 0.05) -> str:
    """Whether a paired test agrees with the paper's direction."""
    if claim.says == "better":
        if p >= alpha:
            return f"not resolved (p = {p:.2g})"
        return "agrees" if difference > 0 else "differs"
    return "differs" if p < alpha and difference > 0 else "agrees"


def _over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each query over seeds, so that queries are what the test is over."""
    return {query: float(np.mean([run[query] for run in runs])) for query in runs[0]}


def _row(found: Sequence[Result], measures: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"seconds": [result["seconds"] for result in found]}
    for measure in measures:
        values = [float(np.mean(list(result["per_query"][measure].values()))) for result in found]
        row[measure] = {
            "seeds": [round(value, 6) for value in values],
            "mean": round(float(np.mean(values)), 6),
            "sd": round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None,
        }
    return row


def machine() -> dict[str, Any]:
    """What the figures were made on; the dtype is part of what a figure is."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": platform.machine(),
        "dtype": str(scoring_dtype("auto")).removeprefix("torch."),
    }


def add_to(file: Path, summaries: Mapping[str, Any]) -> dict[str, Any]:
    """The record of all experiments, with these in it."""
    record = json.loads(file.read_text()) if file.exists() else {"experiments": {}}
    record["machine"] = machine()
    merged = record["experiments"] | dict(summaries)
    record["experiments"] = {name: merged[name] for name in EXPERIMENTS if name in merged}
    write_json(file, record)
    return record
