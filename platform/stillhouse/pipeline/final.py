"""The comparison at the end: every system on test, latency, tests, the report, the rankers under the output folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillhouse.artifacts import atomic_file, cached_folder, stable_hash, write_json
from stillhouse.candidates.run_file import source_of
from stillhouse.evaluation import figures
from stillhouse.evaluation.diagnostics import score_spread
from stillhouse.evaluation.latency import Latency, latency
from stillhouse.evaluation.measures import named_qrels
from stillhouse.evaluation.report import Report, SystemResult, build_report, write_report
from stillhouse.evaluation.table import markdown
from stillhouse.evaluation.trec import write_run
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model
from stillhouse.pipeline.runs import first_stage_run, mean_of, mean_run, measure, model_run
from stillhouse.recipe.text import to_yaml
from stillhouse.records import Run


@dataclass(frozen=True)
class System:
    """One row of the table: no model is the first stage, several are an ensemble."""

    name: str
    models: tuple[Model, ...] = ()
    note: str = ""


def first_stage(context: Context) -> System:
    """The candidates as they come; a run file is not called by its path."""
    source = source_of(context.recipe.candidates.source, "test")
    return System(source if source in ("bm25", "scoreddocs") else "first stage")


def compare_systems(
    context: Context,
    systems: list[System],
    pairs: list[tuple[str, str]],
    gap: tuple[str, str, str] | None,
    folder: Path,
) -> Report:
    """Measure the systems on test, compare the given pairs on the measure that selects, write it all to `folder`."""
    results, runs = [], {}
    for system in systems:
        runs[system.name] = _run(context, system)
        per_query = measure(context, runs[system.name], "test")
        timed = _latency(context, system.models[0]) if len(system.models) == 1 else None
        results.append(SystemResult(system.name, "test", per_query, timed, system.note))
    recipe = context.recipe
    report = build_report(
        results,
        pairs,
        tested=[recipe.evaluation.select_by],
        gap=gap,
        facts={"recipe": recipe.name, "depth": recipe.evaluation.depth, "seconds": step_seconds(context)},
    )
    for name, run in runs.items():
        path = folder / "runs" / f"{name.replace(' ', '-')}.test.trec.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_run(path, run, name.replace(" ", "-"))
    write_report(report, folder)
    _draw(context, report, runs, folder / "figures")
    return report


def _draw(context: Context, report: Report, runs: Mapping[str, Run], folder: Path) -> None:
    """Score histograms, margins, and effectiveness against latency."""
    qrels = named_qrels(context.collection, "test")
    spreads = [score_spread(name, run, qrels) for name, run in runs.items()]
    figures.score_histograms(spreads, folder / "scores.png")
    figures.margin_histogram(spreads, folder / "margins.png")
    measure_name = context.recipe.evaluation.select_by
    points = [
        (system.name, system.latency.median_ms, mean_of(system.per_query[measure_name]))
        for system in report.systems
        if system.latency
    ]
    figures.effectiveness_latency(points, folder / "latency.png", measure_name)


def step_seconds(context: Context) -> dict[str, float]:
    """What each step took when it was done: this command's times, and those of an earlier one that did more."""
    file = context.output / "results.json"
    earlier = json.loads(file.read_text()).get("seconds", {}) if file.exists() else {}
    names = dict.fromkeys([*earlier, *context.seconds])
    return {name: round(max(earlier.get(name, 0.0), context.seconds.get(name, 0.0)), 1) for name in names}


def _run(context: Context, system: System) -> Run:
    if not system.models:
        return first_stage_run(context, "test")
    return mean_run([model_run(context, system.name, model, "test") for model in system.models])


def _latency(context: Context, model: Model) -> Latency:
    """One test query with its candidates, timed once per model and kept."""
    from stillhouse.rankers import load_ranker

    collection, candidates = context.collection, context.candidates("test")
    depth = context.recipe.evaluation.depth
    folder = context.root / "latency" / stable_hash([model.key, collection.digest, candidates.key, depth])

    def build(_: Path) -> dict[str, Any]:
        row = max(range(len(candidates)), key=lambda row: len(candidates.rows(row)))
        docs = collection.docs.texts(candidates.rows(row)[:depth].tolist())
        query = collection.splits["test"].queries.text(row)
        return asdict(latency(load_ranker(model.path), query, docs))

    return Latency(**cached_folder(folder, build))


def save_models(context: Context, models: Mapping[str, Model], cards: Mapping[str, str]) -> None:
    """Copy the rankers to the output folder, each with its model card."""
    from stillhouse.rankers.card import with_body

    for name in {name.partition("/")[0] for name in models}:
        shutil.rmtree(context.output / name, ignore_errors=True)
    for name, model in models.items():
        target = context.output / name
        shutil.copytree(model.path, target, ignore=shutil.ignore_patterns("done.json"))
        if name in cards:
            card = target / "README.md"
            card.write_text(with_body(card.read_text(), cards[name]))


def taught_by(teacher: str, stores: Sequence[str]) -> str:
    """The sentence of a model card that names the teacher; empty where nothing taught."""
    return f"Taught by {teacher}; its scores are in the score stores {', '.join(stores)}." if stores else ""


def card_text(context: Context, model: Model, report: Report | None, system: str, taught: str = "") -> str:
    """What a model card says beyond how to load it: data, training, teacher, and figures if `system` was measured.

    Without a report, as after `stillhouse train`, the figures are those of dev.
    """
    recipe = context.recipe
    lines = [
        "## Training",
        "",
        f"Recipe `{recipe.name}`, seed {recipe.seed}, on `{recipe.collection.train}` "
        f"({len(context.collection.splits['train'].queries)} queries, "
        f"collection digest `{context.collection.digest}`):",
        "",
        "```yaml",
        to_yaml(model.facts["job"]).rstrip(),
        "```",
        "",
        *([taught, ""] if taught else []),
    ]
    if report is None:
        dev = _best_on_dev(context, model, recipe.evaluation.measures)
        return "\n".join([*lines, *(["## Measured", "", *dev] if dev else [])])
    for result in report.systems:
        if result.name == system:
            lines += _measured(context, model, report, result)
    return "\n".join(lines)


def _measured(context: Context, model: Model, report: Report, result: SystemResult) -> list[str]:
    """The best dev figure of the training, and the whole test table of the run with its comparisons."""
    recipe = context.recipe
    return [
        "## Measured",
        "",
        *_best_on_dev(context, model, list(result.per_query)),
        f"On test (`{recipe.collection.test}`), {len(next(iter(result.per_query.values())))} queries, "
        f"re-ranking the first {recipe.evaluation.depth} of {recipe.candidates.source}; "
        f'this ranker is "{result.name}":',
        "",
        markdown(report),
    ]


def _best_on_dev(context: Context, model: Model, names: Sequence[str]) -> list[str]:
    dev = [f"{name} {model.facts[name]:.4f}" for name in names if name in model.facts]
    return [f"Best on dev (`{context.recipe.collection.dev}`) while training: {', '.join(dev)}.", ""] if dev else []


def write_record(context: Context, record: Mapping[str, Any]) -> None:
    """`recipe.yaml` (the effective recipe) and `record.json` (where everything of this run is kept)."""
    with atomic_file(context.output / "recipe.yaml") as temporary:
        temporary.write_text(to_yaml(json.loads(context.recipe.model_dump_json())))
    write_json(context.output / "record.json", dict(record))
