"""A ranker as an entrant: it re-ranks the ground's candidates and is timed on one query."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from stillhouse.artifacts import file_digest
from stillhouse.comparison.entrants import Entrant, Ground, Section
from stillhouse.recipe.tree import CandidatesSpec
from stillhouse.tracking.models import is_model_uri

_MARKS = ("ranker.json", "modules.json", "config.json")


def is_model(name: str) -> bool:
    """A folder with a ranker, an MLflow URI, or a name as the hub has them."""
    path = Path(name).expanduser()
    if path.exists():
        return any((path / mark).is_file() for mark in _MARKS)
    return is_model_uri(name) or re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name) is not None


def rerank_model(
    name: str, ground: Ground, spec: CandidatesSpec, depth: int, root: Path, note: Callable[[str], None]
) -> tuple[Entrant, Section]:
    """Re-rank the first `depth` candidates of each query, in this process, and time the query that has most."""
    from stillhouse.candidates import candidates_for
    from stillhouse.evaluation.latency import latency
    from stillhouse.evaluation.rerank import rerank
    from stillhouse.rankers import load_ranker
    from stillhouse.training.run import pick_device

    collection, split = ground.collection, ground.collection.splits[ground.split]
    ranker = load_ranker(name).to(pick_device())
    candidates = candidates_for(spec, collection, ground.split, root)
    shown = Path(name).name if Path(name).is_dir() else name
    note(f"re-ranking {len(split.queries):,} queries x {depth} candidates with {shown}")
    run = rerank(ranker, collection, ground.split, candidates, depth, root)
    row = max(range(len(candidates)), key=lambda row: len(candidates.rows(row)))
    docs = collection.docs.texts(candidates.rows(row)[:depth].tolist())
    timed = latency(ranker, split.queries.text(row), docs) if docs else None
    facts = {
        "ranker": name,
        "architecture": ranker.key,
        "weights digest": ranker.weight_digest(),
        "tokenizer digest": ranker.tokenizer_digest,
        "candidates": f"{spec.source}, first {depth}",
        "dtype": str(next(ranker.parameters()).dtype).removeprefix("torch."),
    }
    facts |= {path.name: file_digest(path) for path in sorted(Path(name).glob("*.safetensors"))}
    return Entrant(shown, run, timed), Section(f"Model {shown}", facts)
