"""Rankings of a split by a model: TREC runs in the workspace, made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillhouse.artifacts import cached_folder, stable_hash
from stillhouse.evaluation.measures import PerQuery, named_qrels, per_query
from stillhouse.evaluation.rerank import rerank
from stillhouse.evaluation.trec import read_run, write_run
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model
from stillhouse.records import Run

FILE = "run.trec.gz"


def model_run(context: Context, name: str, model: Model, split: str) -> Run:
    """The split's candidates re-ranked by a model."""
    from stillhouse.rankers import load_ranker
    from stillhouse.training.run import pick_device

    depth = context.recipe.evaluation.depth
    dtype = context.recipe.store.dtype
    candidates = context.candidates(split)
    key = stable_hash([model.key, split, context.collection.digest, candidates.key, depth, dtype])
    folder = context.root / "reranked" / key

    def build(target: Any) -> dict[str, Any]:
        ranker = load_ranker(model.path).for_scoring(scoring_dtype(dtype)).to(pick_device())
        with context.step(f"re-rank {split} with {name}") as advance:
            run = rerank(
                ranker,
                context.collection,
                split,
                candidates,
                depth,
                context.root,
                progress=lambda done, total: advance(done, total, ""),
            )
        write_run(target / FILE, run, name.replace(" ", "-"))
        return {"ranker": name, "truncated": ranker.truncation.share}

    cached_folder(folder, build)
    return read_run(folder / FILE)


def scoring_dtype(name: str) -> Any:
    from stillhouse.training.run import pick_device, pick_dtype

    return pick_dtype(name, pick_device())  # type: ignore[arg-type]


def first_stage_run(context: Context, split: str) -> Run:
    """The candidates as they came."""
    return context.candidates(split).run(context.collection, split, context.recipe.evaluation.depth)


def mean_run(runs: Sequence[Run]) -> Run:
    """The ensemble: mean of the raw scores of the same pairs."""
    first = runs[0]
    return {
        query: {doc: float(np.mean([run[query][doc] for run in runs])) for doc in docs} for query, docs in first.items()
    }


def measure(context: Context, run: Run, split: str) -> PerQuery:
    """The recipe's measures of a run, per query; queries without results count 0."""
    return per_query(run, named_qrels(context.collection, split), list(context.recipe.evaluation.measures))


def mean_of(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))
