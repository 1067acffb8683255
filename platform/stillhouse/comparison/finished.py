"""A finished run, read from its output folder or from the artifacts of its MLflow run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.comparison.entrants import Curves, Entrant, Ground, Section
from stillhouse.errors import CollectionError, RecipeError
from stillhouse.evaluation.latency import Latency
from stillhouse.evaluation.measures import named_qrels
from stillhouse.evaluation.trec import read_run
from stillhouse.recipe import Recipe, make_recipe
from stillhouse.recipe.text import to_yaml
from stillhouse.training.curve import CURVE, read_points
from stillhouse.training.evaluations import EVALUATIONS


@dataclass(frozen=True)
class Finished:
    """What a run left: its recipe, its results, and where everything is kept."""

    folder: Path
    recipe: Recipe
    results: dict[str, Any]
    record: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The rankers of its table."""
        return [row["ranker"] for row in self.results["rows"]]

    @property
    def main(self) -> str:
        """The ranker that the run is about: the one that was tested against the others."""
        tested = [row["ranker"] for row in self.results["rows"] if row["tests"]]
        return (tested or self.names)[-1]

    @property
    def gap(self) -> tuple[str, str, str] | None:
        """Names of the distilled, the contrastive and the teacher system, where the run compared them."""
        found = self.results.get("gap_closed")
        return (found["distilled"], found["contrastive"], found["teacher"]) if found else None

    @property
    def measures(self) -> list[str]:
        """The recipe's measures, the one that selects first."""
        spec = self.recipe.evaluation
        return list(dict.fromkeys([spec.select_by, *spec.measures]))


def is_finished(folder: Path) -> bool:
    return (folder / "results.json").is_file()


def open_finished(folder: Path) -> Finished:
    """The folder of a finished run; CollectionError where it lacks what a report needs."""
    if not is_finished(folder):
        raise CollectionError(f"{folder}: no results.json there; give the output.path of a finished run")
    recipe = folder / "recipe.yaml" if (folder / "recipe.yaml").is_file() else folder / "recipe.json"
    if not recipe.is_file():
        raise CollectionError(f"{folder}: no recipe.yaml there, so its collection is not known; run it again")
    record = _json(folder / "record.json") if (folder / "record.json").is_file() else {}
    if "environment" not in record and (folder / "environment.json").is_file():
        record = record | {"environment": {"versions": _json(folder / "environment.json").get("versions", {})}}
    return Finished(folder, _recipe(recipe), _json(folder / "results.json"), record)


def ground_of(finished: Finished, root: Path) -> Ground:
    """The collection that the run was measured on, test split; CollectionError where it has changed since."""
    from stillhouse.collection import materialise

    spec = finished.recipe.collection
    collection = materialise(spec, finished.recipe.seed if spec.seed is None else spec.seed, root)
    digest = finished.record.get("collection_digest", collection.digest)
    if digest != collection.digest:
        raise CollectionError(
            f"{finished.folder}: measured on collection {digest}, which has since become {collection.digest}; "
            "run the recipe again, or compare run files with --collection"
        )
    return Ground(collection, "test", named_qrels(collection, "test"), spec.test)


def entrants_of(finished: Finished, names: list[str] | None = None) -> list[Entrant]:
    """The rankers of the run's table, or some of them, with the rankings they were measured by."""
    rows = [row for row in finished.results["rows"] if names is None or row["ranker"] in names]
    missing = set(names or ()) - {row["ranker"] for row in rows}
    if missing:
        raise CollectionError(f"{finished.folder}: no ranker {min(missing)} there; found {', '.join(finished.names)}")
    return [
        Entrant(row["ranker"], read_run(run_file(finished.folder, row["ranker"])), _latency(row), row["note"])
        for row in rows
    ]


def run_file(folder: Path, name: str) -> Path:
    """Where a run keeps the ranking of a system."""
    return folder / "runs" / f"{name.replace(' ', '-')}.test.trec.gz"


def curves_in(folder: Path) -> Curves | None:
    """The curves of a training, which lie beside the ranker; None where there are none."""
    loss = [(point["step"], point["loss"]) for point in read_points(folder / CURVE) if "loss" in point]
    dev: dict[str, list[tuple[float, float]]] = {}
    for point in read_points(folder / EVALUATIONS):
        for name, value in point.items():
            if name not in ("step", "time") and "/" not in name:
                dev.setdefault(name, []).append((point["step"], value))
    return Curves(loss, dev) if loss or dev else None


def curves_of(finished: Finished) -> dict[str, Curves]:
    """Curves of the student and of the teachers whose folders are kept."""
    teachers = sorted(path.parent for path in finished.folder.glob(f"teacher/**/{CURVE}"))
    named = {f"teacher {path.name}" if path.name != "teacher" else "teacher": path for path in teachers}
    found = {name: curves_in(path) for name, path in ({finished.main: finished.folder / "student"} | named).items()}
    return {name: curves for name, curves in found.items() if curves is not None}


def sections_of(finished: Finished, ground: Ground | None = None) -> list[Section]:
    """Where the run comes from: data, run, environment, recipe. Passwords inside addresses are left out."""
    recipe, record = finished.recipe, finished.record
    title = f"Run {recipe.name}"
    data = {"train": recipe.collection.train, "dev": recipe.collection.dev, "test": recipe.collection.test}
    data["collection digest"] = record.get("collection_digest", "")
    if ground is not None:
        facts = ground.collection.facts
        data["documents"] = f"{len(ground.collection.docs):,}, digest {facts.get('docs_digest', 'unknown')}"
        data |= {f"{name} queries, digest": digest for name, digest in facts.get("query_digests", {}).items()}
    data["candidates"] = f"{recipe.candidates.source}, first {recipe.evaluation.depth} re-ranked"
    data["score stores"] = ", ".join(record.get("store_keys") or [record.get("store_key", "")])
    data["score stores lie in"] = record.get("store_path", "")
    run = {
        "seed": str(recipe.seed),
        "found by the search": flat(record.get("best", {})),
        "MLflow run": record.get("parent_run_id", ""),
        "MLflow store": record.get("tracking_uri", ""),
        "seconds of each step": flat(finished.results.get("seconds", {})),
    }
    environment = {name: flat(value) for name, value in record.get("environment", {}).items()}
    text = to_yaml(json.loads(recipe.model_dump_json()))
    return [
        Section(f"{title}: data", _said(data)),
        Section(f"{title}: how it was made", _said(run | environment), without_passwords(text)),
    ]


def flat(value: Any) -> str:
    """A value on one line: `a 1, b 2` for a mapping."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {flat(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(flat, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def without_passwords(text: str) -> str:
    """The text with `user:password@` taken out of its addresses."""
    return re.sub(r"://[^/@\s'\"]+@", "://", text)


def _said(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: without_passwords(value) or "not recorded" for name, value in facts.items()}


def _latency(row: Mapping[str, Any]) -> Latency | None:
    return Latency(**row["latency"]) if row.get("latency") else None


def _recipe(file: Path) -> Recipe:
    if file.suffix == ".json":
        return make_recipe(_json(file), place=str(file))
    from stillhouse.recipe import load_recipe

    return load_recipe(file)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{file}: cannot be read as JSON: {error}") from None
