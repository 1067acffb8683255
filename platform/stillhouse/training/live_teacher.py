"""The teacher inside a training: it scores the pairs that no store holds, each once per process."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stillhouse.collection import open_collection
from stillhouse.collection.tokens import TokenIds, token_ids
from stillhouse.errors import TrainingError
from stillhouse.rankers import load_ranker
from stillhouse.rankers.base import Ranker
from stillhouse.records import Group
from stillhouse.training.false_negatives import allowed

if TYPE_CHECKING:
    from stillhouse.collection import Collection
    from stillhouse.recipe.groups import GroupsSpec

MAX_PAIRS = 4_000_000
"""Pairs kept, about 100 bytes each; past that the oldest half is dropped and scored again when met."""


@dataclass(frozen=True)
class Member:
    """One ranker of the teacher with the token ids of the train queries and of the documents."""

    ranker: Ranker
    query_ids: TokenIds
    doc_ids: TokenIds


@dataclass(frozen=True)
class LiveTeacher:
    """The mean of its members' raw scores, as in the stores.

    The last bits of a score depend on what it was batched with, so after a resume they may differ.
    """

    members: Sequence[Member]
    collection: Collection
    _scores: dict[tuple[int, int], float] = field(default_factory=dict)

    def scores(self, docs_of: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """float32 scores of some documents of each train query, by row numbers; TrainingError if one is not finite."""
        missing = {
            query: [doc for doc in dict.fromkeys(docs.tolist()) if (query, doc) not in self._scores]
            for query, docs in docs_of.items()
        }
        self._score({query: docs for query, docs in missing.items() if docs})
        found = {
            query: np.asarray([self._scores[query, doc] for doc in docs.tolist()], dtype=np.float32)
            for query, docs in docs_of.items()
        }
        if len(self._scores) > MAX_PAIRS:
            for pair in list(self._scores)[: MAX_PAIRS // 2]:
                del self._scores[pair]
        return found

    def _score(self, docs_of: Mapping[int, Sequence[int]]) -> None:
        if not docs_of:
            return
        width = max(len(docs) for docs in docs_of.values())
        total_QK = np.zeros((len(docs_of), width))
        for member in self.members:
            queries = [member.query_ids[query] for query in docs_of]
            docs = [[member.doc_ids[doc] for doc in row] for row in docs_of.values()]
            total_QK += member.ranker.score_tokens(queries, docs)
        mean_QK = (total_QK / len(self.members)).astype(np.float32)
        for mean_K, (query, row) in zip(mean_QK, docs_of.items(), strict=True):
            for score, doc in zip(mean_K.tolist(), row, strict=False):
                if not np.isfinite(score):
                    raise TrainingError(
                        f"query {self.collection.splits['train'].queries.ids[query]}, document "
                        f"{self.collection.docs.ids[doc]}: the teacher gives {score}; try store.dtype float32"
                    )
                self._scores[query, doc] = score

    def fill(self, group: Group) -> Group:
        """The group with scores where it had none."""
        unknown_K = np.isnan(group.teacher_K)
        found = self.scores({group.query_row: group.doc_rows_K[unknown_K]})[group.query_row]
        teacher_K = group.teacher_K.copy()
        teacher_K[unknown_K] = found
        return replace(group, teacher_K=teacher_K)


def complete(
    shares: Sequence[Sequence[tuple[Group, bool]]], spec: GroupsSpec, live: LiveTeacher
) -> list[list[tuple[Group, bool]]]:
    """Micro-batches of groups with every pair scored; likely positives among the negatives are taken out.

    Groups that are there for padding only are left as they are.
    """
    wanted = {group.query_row: group.doc_rows_K[np.isnan(group.teacher_K)] for share in shares for group, real in share}
    live.scores({query: docs for query, docs in wanted.items() if len(docs)})
    return [
        [(without_false_negatives(live.fill(group), spec) if real else group, real) for group, real in share]
        for share in shares
    ]


def without_false_negatives(group: Group, spec: GroupsSpec) -> Group:
    """The group without negatives that its teacher scores put above the margin's bound."""
    if spec.false_negative_margin is None or not len(group.label_K) or group.label_K[0] <= 0:
        return group
    fine_K = allowed(group.teacher_K, float(group.teacher_K[0]), spec) | (group.label_K > 0)
    return Group(
        group.query_row,
        group.doc_rows_K[fine_K],
        group.label_K[fine_K],
        group.teacher_K[fine_K],
        group.removed + int((~fine_K).sum()),
    )


@functools.lru_cache(maxsize=1)
def open_live_teacher(
    models: tuple[str, ...], dtype: str, collection_path: str, workspace: str, device: torch.device
) -> LiveTeacher:
    """The teacher of these model folders; the second call in a process gives the first one's, scores and all."""
    collection, root = open_collection(Path(collection_path)), Path(workspace)
    queries, docs = collection.splits["train"].queries, collection.docs
    members = []
    for model in models:
        ranker = load_ranker(model).for_scoring(getattr(torch, dtype)).to(device)
        ids = token_ids(queries, ranker.reader("query"), root), token_ids(docs, ranker.reader("doc"), root)
        members.append(Member(ranker, *ids))
    return LiveTeacher(members, collection)
