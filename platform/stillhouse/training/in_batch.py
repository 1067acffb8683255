"""In-batch negatives: every query of a step against the documents of all its queries, over ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stillhouse.errors import TrainingError
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.batching import Batch
from stillhouse.rankers.dual_encoder import DualEncoder
from stillhouse.records import Group
from stillhouse.training import ranks
from stillhouse.training.batches import MicroBatch
from stillhouse.training.false_negatives import allowed
from stillhouse.training.gradient_cache import GradientCache
from stillhouse.training.groups import GroupSampler, at_floor, keyed_generator
from stillhouse.training.live_teacher import LiveTeacher
from stillhouse.training.step import Inputs


@dataclass(frozen=True)
class Columns:
    """The documents of a step, N of them: group after group, as the step orders them on every rank."""

    rows_N: np.ndarray
    """Document rows."""
    starts: tuple[int, ...]
    """Where each group's own documents begin; one more for the end."""
    text_N: np.ndarray
    """Number of each document's text."""
    text_number: dict[str, int]
    first_N: np.ndarray
    """Bool: the first document with its text."""


def columns_of(groups: Sequence[Group], hashes: Sequence[str]) -> Columns:
    """The documents of all groups of a step; `hashes` are those of the collection's texts."""
    rows_N = np.concatenate([group.doc_rows_K for group in groups])
    text_number: dict[str, int] = {}
    text_N = np.asarray([text_number.setdefault(hashes[row], len(text_number)) for row in rows_N.tolist()])
    first_N = np.zeros(len(rows_N), dtype=bool)
    first_N[np.unique(text_N, return_index=True)[1]] = True
    starts = np.cumsum([0, *(len(group.doc_rows_K) for group in groups)])
    return Columns(rows_N, tuple(starts.tolist()), text_N, text_number, first_N)


def places_of(groups: Sequence[Group], width: int) -> np.ndarray:
    """For each column its row among the gathered vectors: rank after rank, each its groups' `width` slots.

    Group g is number g // ranks of rank g % ranks, as `batches.rank_share` deals them out.
    """
    world = ranks.world_size()
    per_rank = -(-len(groups) // world)
    firsts = [(number % world * per_rank + number // world) * width for number in range(len(groups))]
    return np.concatenate(
        [first + np.arange(len(group.doc_rows_K)) for first, group in zip(firsts, groups, strict=True)]
    )


def usable(columns: Columns, number: int, positive_texts: Sequence[str]) -> np.ndarray:
    """Bool [N]: the documents that group `number` is trained on. All its own; of the others one of each text.

    Not those with the text of a known positive of its query, or of one of its own documents.
    """
    own = slice(columns.starts[number], columns.starts[number + 1])
    known = [columns.text_number[text] for text in positive_texts if text in columns.text_number]
    taken = np.concatenate([columns.text_N[own], np.asarray(known, dtype=columns.text_N.dtype)])
    mask_N: np.ndarray = columns.first_N & ~np.isin(columns.text_N, taken)
    mask_N[own] = True
    return mask_N


@dataclass(frozen=True)
class Targets:
    """What this rank's queries are taught on the documents of the step."""

    teacher_QN: np.ndarray
    label_QN: np.ndarray
    mask_QN: np.ndarray
    removed: int
    """Documents of other queries that the teacher's margin took out."""


def targets_of(
    columns: Columns, groups: Sequence[Group], numbers: Sequence[int], sampler: GroupSampler, live: LiveTeacher | None
) -> Targets:
    """Teacher scores, labels and mask of the groups of these numbers, one row each."""
    shape = len(numbers), len(columns.rows_N)
    targets = Targets(np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool), 0)
    owns = [slice(columns.starts[number], columns.starts[number + 1]) for number in numbers]
    for place, (number, own) in enumerate(zip(numbers, owns, strict=True)):
        group = groups[number]
        grades = sampler.split.qrels.get(group.query_row, {})
        texts = [sampler.docs.hashes[row] for row, grade in grades.items() if grade > 0]
        targets.mask_QN[place] = usable(columns, number, texts)
        targets.label_QN[place, own] = group.label_K
        if sampler.teacher is not None:
            targets.teacher_QN[place] = sampler.teacher.of(group.query_row, columns.rows_N)
        targets.teacher_QN[place, own] = group.teacher_K
    if live is not None:
        _score(targets, [groups[number].query_row for number in numbers], columns.rows_N, live)
    removed = 0
    for place, (number, own) in enumerate(zip(numbers, owns, strict=True)):
        teacher_N = targets.teacher_QN[place]
        removed += _leave_out(teacher_N, targets.mask_QN[place], groups[number], own, sampler)
        if sampler.spec.unscored == "floor":
            own_K = teacher_N[own].copy()
            teacher_N[:] = at_floor(teacher_N, own_K)
            teacher_N[own] = own_K
    return replace(targets, removed=removed)


def _score(targets: Targets, query_rows: Sequence[int], rows_N: np.ndarray, live: LiveTeacher) -> None:
    """Put the teacher's scores where a document counts and has none."""
    unknown_QN = targets.mask_QN & np.isnan(targets.teacher_QN)
    found = live.scores({query: rows_N[unknown_N] for query, unknown_N in zip(query_rows, unknown_QN, strict=True)})
    for place, query in enumerate(query_rows):
        targets.teacher_QN[place, unknown_QN[place]] = found[query]


def _leave_out(teacher_N: np.ndarray, mask_N: np.ndarray, group: Group, own: slice, sampler: GroupSampler) -> int:
    """Mask what the teacher scores too close to the query's positive; the number of documents masked."""
    if sampler.spec.false_negative_margin is None or not len(group.label_K) or group.label_K[0] <= 0:
        return 0
    fine_N = allowed(teacher_N, float(group.teacher_K[0]), sampler.spec)
    fine_N[own] = True
    removed = int((mask_N & ~fine_N).sum())
    mask_N &= fine_N
    return removed


class InBatchStep:
    """One step over all its documents: calling it gives the scores that the losses read with `inputs`.

    `groups` are those of the step, `micros` this rank's part of them, padding last, `seed` the key of its dropout.
    `finish` follows the backward of the losses. Between ranks it exchanges vectors: a rank must not fall out.
    """

    def __init__(
        self,
        ranker: Ranker,
        groups: Sequence[Group],
        micros: Sequence[Inputs],
        sampler: GroupSampler,
        live: LiveTeacher | None,
        autocast: Callable[[], AbstractContextManager[None]],
        seed: Sequence[object],
    ) -> None:
        if not isinstance(ranker, DualEncoder):
            raise TrainingError(f"strategy in_batch needs a dual_encoder: a {ranker.key} has no product of two vectors")
        self.ranker = ranker
        device = ranker.device
        # Padding comes last in a rank's share and gets no row; a rank of padding alone keeps one, of weight 0.
        own = list(range(ranks.rank(), len(groups), ranks.world_size()))
        numbers = own or [0]
        targets = targets_of(columns_of(groups, sampler.docs.hashes), groups, numbers, sampler, live)
        self.places_N = torch.from_numpy(places_of(groups, sampler.spec.num_negatives + 1)).to(device)
        mask_QN = torch.from_numpy(targets.mask_QN).to(device)
        wide = MicroBatch(
            batch=Batch(mask_QN, ()),
            teacher_QK=torch.from_numpy(targets.teacher_QN).to(device),
            label_QK=torch.from_numpy(targets.label_QN).to(device),
            mask_QK=mask_QN,
            counts_Q=torch.full((len(numbers),), 1.0 if own else 0.0, device=device),
            query_rows=tuple(groups[number].query_row for number in numbers),
        )
        masked = {name: [part for each in micros for part in each.masked[name]] for name in micros[0].masked}
        removed = sum(each.removed for each in micros) + (targets.removed if own else 0)
        self.inputs = [Inputs(wide, masked, removed)]
        self.cache = GradientCache(
            ranker,
            [each.micro.batch for each in micros],
            autocast,
            lambda number: int(keyed_generator(*seed, number).integers(2**62)),
        )

    def __call__(self, batch: Batch) -> Tensor:
        """Scores of this rank's queries with every document of the step, [Q, N]."""
        queries_QD, docs_ND = self.cache.encode()
        return self.ranker.interact(queries_QD[: len(batch.mask_QK)], ranks.gather_rows(docs_ND)[self.places_N])

    def finish(self) -> None:
        """From the vectors' gradients to the weights'."""
        self.cache.backward()
