"""Encoding over Ray Data: the shards of `encode`, made wherever there is a free actor."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from stillhouse.errors import StoreError
from stillhouse.evaluation.encode import encode_shard, tidy
from stillhouse.evaluation.encoded import EncodedDocs
from stillhouse.evaluation.rerank import Progress
from stillhouse.spread import spread

if TYPE_CHECKING:
    from stillhouse.collection import Texts, TokenIds


class ShardEncoder:
    """An actor: one ranker and the memory-mapped token ids of the documents."""

    def __init__(
        self, ranker_path: str, docs: Texts, doc_ids: TokenIds, encoded: EncodedDocs, dtype: str, threads: int
    ) -> None:
        import torch

        from stillhouse.rankers import load_ranker

        torch.set_num_threads(threads)
        self.ranker = load_ranker(ranker_path).for_scoring(getattr(torch, dtype))
        if torch.cuda.is_available():
            self.ranker.to("cuda")
        self.docs, self.doc_ids, self.encoded = docs, doc_ids, encoded

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard = int(row["shard"])
        encode_shard(self.ranker, self.docs, self.doc_ids, self.encoded, shard)
        return {"shard": shard, "docs": len(self.encoded.rows(shard))}


def encode_distributed(
    ranker_path: str | Path,
    docs: Texts,
    doc_ids: TokenIds,
    encoded: EncodedDocs,
    *,
    workers: int,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> int:
    """Encode the shards that are missing with `workers` actors; returns their number.

    Ray is already connected; ranker, collection and `encoded` lie where every node sees them. An actor that dies is
    replaced and its shard made again.
    """
    missing = encoded.missing()
    total = sum(len(encoded.rows(shard)) for shard in missing)
    done = 0
    if missing:
        cpus, gpus = actor_share(min(workers, len(missing)), spare_cpu=True)
        outcomes = spread(
            [{"shard": shard} for shard in missing],
            ShardEncoder,
            {
                "ranker_path": str(Path(ranker_path).resolve() if Path(ranker_path).exists() else ranker_path),
                "docs": docs,
                "doc_ids": doc_ids,
                "encoded": encoded,
                "dtype": dtype,
                "threads": max(1, math.floor(cpus)),
            },
            actors=min(workers, len(missing)),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    done += int(outcome["docs"])
                    if progress is not None:
                        progress(done, total)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"encoding stopped: {reason}; finished shards are kept") from error
    tidy(encoded)
    return len(missing)


def actor_share(workers: int, *, spare_cpu: bool = False) -> tuple[float, float]:
    """CPUs and GPUs of each of `workers` actors; `spare_cpu` leaves Ray Data's own tasks one, or half of few.

    With all CPUs held by actors a pipeline would wait for itself forever.
    """
    total, free = ray.cluster_resources(), ray.available_resources().get("CPU", 0.0)
    if not free:
        raise StoreError("cluster: none of its CPUs is free; wait for the running job or add nodes")
    usable = max(free - 1, free / 2) if spare_cpu else free
    return _floored(usable / workers), _floored(total.get("GPU", 0.0) / workers)


def _floored(share: float) -> float:
    """Whole numbers above 1, as Ray wants them."""
    return math.floor(share) if share >= 1 else math.floor(share * 1000) / 1000
