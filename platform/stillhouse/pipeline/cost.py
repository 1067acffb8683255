"""The cost table of several rankers, with their quality on a collection where one is given."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from stillhouse.errors import RecipeError
from stillhouse.evaluation.cost import Question, cost
from stillhouse.evaluation.cost_table import CostTable, write_costs
from stillhouse.evaluation.measures import at_relevance, means, per_query
from stillhouse.evaluation.suite import FirstStage, SuiteCollection
from stillhouse.pipeline.suite import Opened, open_entrants, open_test, ranked_by
from stillhouse.progress import progress_line


@dataclass(frozen=True)
class Settings:
    """How costs are measured."""

    documents: int = 1000
    repeats: int = 20
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    measures: tuple[str, ...] = ("nDCG@10",)


def run_costs(
    models: Sequence[str],
    settings: Settings,
    entry: SuiteCollection | None,
    output: Path,
    *,
    root: Path,
    console: Console,
) -> CostTable:
    """Measure the models one after the other and write the table to `output`."""
    entrants = open_entrants(models, settings.dtype)
    opened = None if entry is None else open_test(entry, FirstStage(), root)
    query, docs = (None, ()) if opened is None else _texts(opened, settings.documents)
    costs = {}
    for entrant in entrants:
        with progress_line(console, f"cost of {entrant.name}"):
            costs[entrant.name] = cost(
                Question(
                    model=entrant.model,
                    documents=settings.documents,
                    query=query,
                    docs=docs,
                    repeats=settings.repeats,
                    threads=settings.threads,
                    device=settings.device,
                    dtype=_dtype(settings),
                )
            )
    measures: dict[str, dict[str, float]] = {}
    if opened is not None:
        names = at_relevance(settings.measures, opened.relevance)
        runs = {"first stage": opened.candidates.run(opened.collection, "test")}
        runs |= {one.name: ranked_by(one, opened, root, console, settings.dtype) for one in entrants}
        measures = {name: means(per_query(run, opened.qrels, names)) for name, run in runs.items()}
    table = CostTable(costs, measures, _words(opened), platform.processor() or platform.machine())
    write_costs(table, output)
    return table


def _texts(opened: Opened, documents: int) -> tuple[str, tuple[str, ...]]:
    """The query with most candidates, and its candidates; further documents of the collection where they are few."""
    collection, candidates = opened.collection, opened.candidates
    row = max(range(len(candidates)), key=lambda row: len(candidates.rows(row)))
    rows = dict.fromkeys([*candidates.rows(row).tolist(), *range(min(documents, len(collection.docs)))])
    texts = collection.docs.texts(list(rows)[:documents])
    if len(texts) < documents:
        raise RecipeError(
            f"{opened.entry.title}: has {len(texts)} documents, {documents} are to be scored; lower --documents"
        )
    return collection.splits["test"].queries.text(row), tuple(texts)


def _dtype(settings: Settings) -> str:
    import torch

    from stillhouse.training.run import pick_dtype

    return str(pick_dtype(settings.dtype, torch.device(settings.device))).removeprefix("torch.")


def _words(opened: Opened | None) -> str:
    if opened is None:
        return ""
    return f"{opened.entry.title}, {len(opened.qrels):,} queries, re-ranking {opened.first_stage()}"
