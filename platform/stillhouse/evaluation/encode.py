"""Encode the documents of a collection, shard by shard; what is finished is never encoded again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from stillhouse.artifacts import atomic_file, stable_hash, write_json
from stillhouse.collection import Texts, TokenIds, token_ids
from stillhouse.errors import RecipeError, StoreError, TrainingError
from stillhouse.evaluation.encoded import DOCS_PER_SHARD, EncodedDocs
from stillhouse.evaluation.rerank import Progress
from stillhouse.rankers import Ranker
from stillhouse.rankers.identity import output_identity
from stillhouse.rankers.reps import Vectors
from stillhouse.rankers.separable import SeparableRanker

DOCS_AT_ONCE = 512
_VERSION = 1
_LEFT_BEHIND_S = 3600.0


def encoding_of(ranker: Ranker, docs: Texts, root: Path, *, per_shard: int = DOCS_PER_SHARD) -> EncodedDocs:
    """Where the representations of `docs` by a ranker lie: named by its output, its dtype and the texts.

    RecipeError for a ranker that has no vectors to compare.
    """
    if not isinstance(ranker, SeparableRanker):
        raise RecipeError(f"full retrieval needs a separable ranker, {ranker.key} reads query and document together")
    identity = output_identity(ranker) | {
        "version": _VERSION,
        "texts": docs.digest,
        "dtype": str(stored_dtype(ranker)),
        "per_shard": per_shard,
    }
    key = stable_hash(identity)
    folder = Path(root).absolute() / "encodings" / key
    if not (folder / "identity.json").exists():
        write_json(folder / "identity.json", identity)
    return EncodedDocs(folder, key, len(docs), per_shard)


def encode(ranker: Ranker, docs: Texts, root: Path, encoded: EncodedDocs, *, progress: Progress | None = None) -> int:
    """Encode the shards that are missing, in this process; returns their number. `progress` counts their documents."""
    missing = encoded.missing()
    total = sum(len(encoded.rows(shard)) for shard in missing)
    done = 0
    if missing:
        doc_ids = token_ids(docs, ranker, root)
        for shard in missing:
            encode_shard(ranker, docs, doc_ids, encoded, shard, _from(progress, done, total))
            done += len(encoded.rows(shard))
    tidy(encoded)
    return len(missing)


def encode_shard(
    ranker: Any, docs: Texts, doc_ids: TokenIds, encoded: EncodedDocs, shard: int, progress: Progress | None = None
) -> None:
    """Write one shard: a pure function of ranker, texts and number, wherever it runs."""
    rows = encoded.rows(shard)
    values: list[Tensor] = []
    lengths: list[Tensor] = []
    for start in range(0, len(rows), DOCS_AT_ONCE):
        chunk = rows[start : start + DOCS_AT_ONCE]
        with ranker.inference():
            reps = ranker.encode_docs([doc_ids[row] for row in chunk])
        if isinstance(reps, Vectors):
            values.append(reps.values_NLD[reps.mask_NL].cpu())
            lengths.append(reps.mask_NL.sum(1).cpu())
        else:
            values.append(reps.cpu())
        _check_finite(values[-1], lengths[-1] if lengths else None, docs, chunk)
        if progress is not None:
            progress(start + len(chunk), len(rows))
    tensors = {"values": torch.cat(values).to(stored_dtype(ranker)).contiguous()}
    if lengths:
        tensors["offsets"] = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(lengths).cumsum(0)])
    try:
        with atomic_file(encoded.path(shard)) as temporary:
            save_file(tensors, temporary, {"key": encoded.key, "shard": str(shard)})
    except (SafetensorError, OSError) as error:
        raise StoreError(
            f"{encoded.path(shard)}: cannot be written ({error}); make room and run the same command again: "
            "finished shards are kept"
        ) from None


def stored_dtype(ranker: Ranker) -> torch.dtype:
    """That of the backbone's weights, which `for_scoring` sets: half the bytes for bfloat16."""
    model = ranker if ranker.backbone is None else ranker.backbone
    dtype: torch.dtype = next(model.parameters()).dtype
    return dtype


def tidy(encoded: EncodedDocs) -> None:
    """Remove what killed writers left behind; files younger than an hour may belong to one that lives."""
    for path in encoded.folder.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
            path.unlink(missing_ok=True)


def _from(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def _check_finite(values: Tensor, lengths: Tensor | None, docs: Texts, chunk: range) -> None:
    broken_R = ~values.isfinite().all(1)
    if not bool(broken_R.any()):
        return
    first = int(broken_R.nonzero()[0, 0])
    place = first if lengths is None else int(torch.searchsorted(lengths.cumsum(0), first, right=True))
    raise TrainingError(f"document {docs.ids[chunk[place]]}: its vector is not finite; the ranker's weights are broken")
