"""Running out of memory: noticed, agreed on by all ranks, and answered with smaller micro-batches."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
import torch

from stillhouse.artifacts import write_json
from stillhouse.collection.texts import Collection
from stillhouse.collection.tokens import Rows
from stillhouse.errors import TrainingError
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import StageSpec
from stillhouse.records import Group
from stillhouse.training import ranks
from stillhouse.training.checkpoints import Progress

LIMITS = "queries_per_forward.json"
# What the allocators of torch and oneDNN say; both raise a plain RuntimeError.
_MESSAGES = ("can't allocate memory", "could not create a memory", "could not create a primitive", "out of memory")

logger = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that an allocation failed, on a GPU or in main memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


class Guard:
    """`with guard:` swallows a failed allocation and notes it; other errors pass."""

    def __init__(self) -> None:
        self.failed = False

    def __enter__(self) -> None:
        self.failed = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.failed = is_out_of_memory(error)
        return self.failed


def release() -> None:
    """Give back what a failed step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def size_of(progress: Progress, stage: StageSpec) -> int:
    """Queries that a forward really holds: no more than a rank's share of a step."""
    return min(progress.queries_per_forward or 1, -(-stage.queries_per_step // ranks.world_size()))


def first_size(progress: Progress, folder: Path, name: str, stage: StageSpec) -> bool:
    """Set the size of a stage's first step: the recipe's, or what an earlier attempt left; whether to try it."""
    wanted, limit = stage.queries_per_forward, read_limit(folder, name)
    size = largest_try(stage) if wanted == "auto" else wanted
    progress.queries_per_forward = size if limit is None else min(size, limit)
    return wanted == "auto" and limit is None


def room_for_averages(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """As much memory as an optimiser's two averages take, where it has not made them yet."""
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [] if optimizer.state else [torch.empty_like(one) for one in trained for _ in range(2)]


def halve(progress: Progress, name: str, stage: StageSpec) -> None:
    """Take half the queries in a forward; one is the least."""
    release()
    size = size_of(progress, stage)
    if size == 1:
        raise TrainingError(too_small(name, stage))
    progress.queries_per_forward = size // 2
    if ranks.rank() == 0:
        step = progress.total_step + 1
        logger.warning("stage %s, step %d: out of memory: queries_per_forward %d -> %d", name, step, size, size // 2)


def largest_try(stage: StageSpec) -> int:
    """The largest power of two that is no more than a rank's queries in a step."""
    share = max(1, stage.queries_per_step // ranks.world_size())
    return int(2 ** (share.bit_length() - 1))


def longest_groups(stage: StageSpec, size: int, collection: Collection) -> list[Group]:
    """`size` groups of each rank, full of documents, for `LongestRows`; rows of the collection, over again if few."""
    num_queries, num_docs = len(collection.splits["train"].queries), len(collection.docs)
    width = stage.groups.num_negatives + 1
    label_K = np.zeros(width, dtype=np.float32)
    label_K[0] = 1.0
    rows_K, teacher_K = np.arange(width, dtype=np.int32) % num_docs, -np.arange(width, dtype=np.float32)
    return [Group(row % num_queries, rows_K, label_K, teacher_K) for row in range(size * ranks.world_size())]


class LongestRows:
    """Every row is as long as the longest text that training can read."""

    def __init__(self, lengths: np.ndarray, cap: int, token: int) -> None:
        longest = min(cap, int(lengths.max(initial=1)))
        self.ids = np.full(longest, token, dtype=np.int32)
        self.lengths = np.asarray([longest])

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids


def read_limit(folder: Path, stage: str) -> int | None:
    """What an earlier attempt at a stage found to be too large, halved."""
    path = folder / LIMITS
    found = json.loads(path.read_text()).get(stage) if path.exists() else None
    return None if found is None else int(found)


def start_again(folder: Path, name: str, stage: StageSpec, size: int) -> NoReturn:
    """End this rank after a failed allocation under FSDP2; the next start takes half the size.

    Ranks that share weights stand in exchanges within a forward: one that falls out cannot tell the others.
    """
    if size == 1:
        raise TrainingError(too_small(name, stage))
    path = folder / LIMITS
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, known | {name: size // 2})
    raise TrainingError(
        f"stage {name}: out of memory with queries_per_forward {size}; start again: {size // 2} is taken then"
    )


def too_small(name: str, stage: StageSpec) -> str:
    return (
        f"stage {name}: out of memory with one query of {stage.groups.num_negatives + 1} documents in a forward; "
        "lower groups.num_negatives or doc_max_length, or set gradient_checkpointing"
    )


def longest_rows(ranker: Ranker, queries: Rows, docs: Rows) -> tuple[LongestRows, LongestRows]:
    """Stand-ins for the queries' and the documents' ids."""
    caps = ranker.spec.query_max_length, ranker.spec.doc_max_length
    token = ranker.tokenizer.unk_token_id or 0
    return LongestRows(queries.lengths, caps[0], token), LongestRows(docs.lengths, caps[1], token)
