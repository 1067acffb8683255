"""Re-ranking over Ray workers: the chunks of `rerank`, scored wherever there is a free actor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import ray
from ray.util.actor_pool import ActorPool

from stillhouse.evaluation.rerank import Chunk, Progress, chunks, named_scores, pairs_per_chunk, score_chunk
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Collection


class ChunkScorer:
    """An actor: one ranker and the memory-mapped texts of one split."""

    def __init__(
        self, ranker_path: str, collection_path: str, split_name: str, root: str, dtype: str, threads: int
    ) -> None:
        import torch

        from stillhouse.collection import open_collection, token_ids
        from stillhouse.rankers import load_ranker

        torch.set_num_threads(threads)
        self.ranker = load_ranker(ranker_path).for_scoring(getattr(torch, dtype))
        if torch.cuda.is_available():
            self.ranker.to("cuda")
        collection = open_collection(Path(collection_path))
        self.query_ids = token_ids(collection.splits[split_name].queries, self.ranker.reader("query"), Path(root))
        self.doc_ids = token_ids(collection.docs, self.ranker.reader("doc"), Path(root))

    def separable(self) -> bool:
        """Whether the chunks may be those of a separable ranker."""
        return self.ranker.separable

    def score(self, number: int, chunk: Chunk) -> tuple[int, list[np.ndarray]]:
        """The chunk's number and its scores."""
        return number, score_chunk(self.ranker, self.query_ids, self.doc_ids, chunk)


def rerank_distributed(
    ranker_path: str | Path,
    collection: Collection,
    split_name: str,
    candidates: Candidates,
    depth: int,
    root: Path,
    *,
    num_actors: int,
    cpus_per_actor: float = 1.0,
    gpus_per_actor: float = 0.0,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Run:
    """The run that `rerank` gives in one process; Ray is already connected, `root` and the ranker on shared storage.

    `dtype` is torch's name of the backbone's weights. A chunk whose actor dies is scored again by the actor that takes
    its place.
    """
    resources = {"num_cpus": cpus_per_actor, "num_gpus": gpus_per_actor}
    actor = ray.remote(ChunkScorer).options(**resources, max_restarts=-1, max_task_retries=-1)
    arguments = (str(ranker_path), str(collection.path), split_name, str(root), dtype, max(1, int(cpus_per_actor)))
    # The first one makes the token ids, the others find them.
    first = actor.remote(*arguments)
    separable = ray.get(first.separable.remote())
    actors = [first, *(actor.remote(*arguments) for _ in range(num_actors - 1))]
    work = list(chunks(candidates, range(len(candidates)), depth, pairs_per_chunk(separable)))
    results: dict[int, list[np.ndarray]] = {}
    done = 0
    pool = ActorPool(actors)
    try:
        for number, scores in pool.map_unordered(lambda actor, item: actor.score.remote(*item), enumerate(work)):
            results[number] = scores
            done += len(work[number])
            if progress is not None:
                progress(done, len(candidates))
    finally:
        for each in actors:
            ray.kill(each)
    run: Run = {}
    for number, chunk in enumerate(work):
        run |= named_scores(collection, split_name, chunk, results[number])
    return run
