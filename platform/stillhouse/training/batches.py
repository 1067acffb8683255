"""From groups to the micro-batches of one rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stillhouse.collection.tokens import Rows
from stillhouse.records import Group
from stillhouse.training import ranks
from stillhouse.training.groups import keyed_generator

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker
    from stillhouse.rankers.batching import Batch

# Pairs per padded piece of a forward: small pieces waste less padding, large ones keep a GPU busy.
PAIRS_PER_CHUNK = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class MicroBatch:
    """Groups of one forward. `counts_Q` is 0 for a query that is there only so that all ranks do equal work."""

    batch: Batch
    teacher_QK: torch.Tensor
    label_QK: torch.Tensor
    mask_QK: torch.Tensor
    counts_Q: torch.Tensor
    query_rows: tuple[int, ...]


Cut = Callable[[np.ndarray, str, int, int], np.ndarray]
"""(ids, side, query row, document row; -1 for the query itself) -> the ids that training reads."""


def token_dropout(probability: float, caps: Mapping[str, int], key: tuple[object, ...]) -> Cut:
    """Leaves each token within the cap out with a probability, one token at least stays (Menon et al., App. C.10).

    Keyed by `key` and the rows, so that it depends neither on micro-batches nor on ranks.
    """

    def cut(ids: np.ndarray, side: str, query_row: int, doc_row: int) -> np.ndarray:
        read = np.asarray(ids[: caps[side]])
        draws = keyed_generator("tokens", *key, query_row, doc_row).random(len(read))
        kept = read[draws >= probability]
        return kept if len(kept) or not len(read) else read[[int(draws.argmax())]]

    return cut


def rank_share(groups: Sequence[Group], queries_per_forward: int) -> list[list[tuple[Group, bool]]]:
    """This rank's groups of a step, in micro-batches; the flag is False for padding.

    Every rank gets the same number of micro-batches of the same size, whatever the number of groups: padding repeats
    the step's first group with weight 0.
    """
    world = ranks.world_size()
    mine = [(group, True) for group in groups[ranks.rank() :: world]]
    mine += [(groups[0], False)] * (-(-len(groups) // world) - len(mine))
    return [mine[start : start + queries_per_forward] for start in range(0, len(mine), queries_per_forward)]


def make_micro_batch(
    share: Sequence[tuple[Group, bool]],
    width: int,
    ranker: Ranker,
    query_ids: Rows,
    doc_ids: Rows,
    device: torch.device,
    cut: Cut | None = None,
) -> MicroBatch:
    """Tokens, teacher scores and labels of some groups, padded to `width` documents; `cut` changes the tokens."""
    queries = [query_ids[group.query_row] for group, _ in share]
    docs = [[doc_ids[row] for row in group.doc_rows_K.tolist()] for group, _ in share]
    if cut is not None:
        queries = [cut(ids, "query", group.query_row, -1) for ids, (group, _) in zip(queries, share, strict=True)]
        docs = [
            [cut(ids, "doc", group.query_row, row) for ids, row in zip(row_ids, group.doc_rows_K.tolist(), strict=True)]
            for row_ids, (group, _) in zip(docs, share, strict=True)
        ]
    pieces = max(1, min(len(share), len(share) * width // PAIRS_PER_CHUNK.get(device.type, 256)))
    batch = ranker.collate(queries, docs, num_chunks=pieces, width=width).to(device)
    return MicroBatch(
        batch=batch,
        teacher_QK=_padded([group.teacher_K for group, _ in share], width, np.nan).to(device),
        label_QK=_padded([group.label_K for group, _ in share], width, 0.0).to(device),
        mask_QK=batch.mask_QK,
        counts_Q=torch.tensor([float(counts) for _, counts in share], device=device),
        query_rows=tuple(group.query_row for group, _ in share),
    )


def _padded(rows: Sequence[np.ndarray], width: int, fill: float) -> torch.Tensor:
    padded = np.full((len(rows), width), fill, dtype=np.float32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(padded)
