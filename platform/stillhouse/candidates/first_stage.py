"""The candidates of a split from whatever source a recipe names, kept on disk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stillhouse.artifacts import cached_folder, file_digest, stable_hash
from stillhouse.candidates import bm25, scored
from stillhouse.candidates.ranking import Candidates, to_table
from stillhouse.candidates.run_file import read_run, run_path, source_of
from stillhouse.collection import scoreddocs
from stillhouse.collection.texts import Collection
from stillhouse.recipe.tree import CandidatesSpec

_VERSION = 1
_log = logging.getLogger(__name__)
_Ranked = Mapping[int, tuple[np.ndarray, np.ndarray]]


def candidates_for(spec: CandidatesSpec, collection: Collection, split_name: str, root: Path) -> Candidates:
    """The first `spec.depth` documents of each query, below `root/candidates/<key>/`.

    The key names texts and source, not the collection: another sample of the training queries leaves test as it is.
    Queries without candidates stay, with no rows, and are counted in `facts`.
    """
    spec = spec.model_copy(update={"source": source_of(spec.source, split_name)})
    key = stable_hash(_identity(spec, collection, split_name))
    folder = Path(root).absolute() / "candidates" / key

    def build(temporary: Path) -> dict[str, Any]:
        ranked, counts = _rank(spec, collection, split_name, Path(root))
        table = to_table(ranked)
        pq.write_table(table, temporary / "candidates.parquet")
        queries = len(collection.splits[split_name].queries)
        without = queries - sum(1 for rows, _ in ranked.values() if len(rows))
        _log_counts(f"{spec.source} ({split_name})", {**counts, "queries without candidates": without})
        return {"queries": queries, "pairs": len(table), "queries without candidates": without, **counts}

    facts = cached_folder(folder, build)
    return Candidates(folder / "candidates.parquet", key, facts)


def _identity(spec: CandidatesSpec, collection: Collection, split_name: str) -> dict[str, Any]:
    """What the candidates depend on."""
    identity: dict[str, Any] = {
        "version": _VERSION,
        "source": spec.source,
        "depth": spec.depth,
        "docs": collection.docs.digest,
        "queries": collection.splits[split_name].queries.digest,
    }
    if spec.source == "bm25":
        return {**identity, "k1": spec.k1, "b": spec.b, **bm25.version()}
    if spec.source == "scoreddocs":
        return {**identity, "ref": collection.facts["refs"][split_name]}
    return {**identity, "source": "run", "file": file_digest(run_path(spec.source, split_name))}


def _rank(spec: CandidatesSpec, collection: Collection, split_name: str, root: Path) -> tuple[_Ranked, Counter[str]]:
    if spec.source == "bm25":
        found = bm25.rank(collection, split_name, k1=spec.k1, b=spec.b, depth=spec.depth, root=root)
        return dict(found), Counter()
    if spec.source == "scoreddocs":
        ref = collection.facts["refs"][split_name]
        rows = ((f"{ref} scoreddocs", row) for row in scoreddocs(ref))
        return scored.rank(rows, f"{ref} scoreddocs", collection, split_name, spec.depth)
    path = run_path(spec.source, split_name)
    return scored.rank(read_run(path), str(path), collection, split_name, spec.depth)


def _log_counts(source: str, counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        if count and reason != "lines":
            _log.warning("%s: %d %s", source, count, reason)
