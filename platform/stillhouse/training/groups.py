"""Groups: one query with K documents, drawn the same way on any number of workers, after a resume, in any trial."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.errors import TrainingError
from stillhouse.recipe.tree import GroupsSpec
from stillhouse.records import Group

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Split, Texts
    from stillhouse.training.teacher import TeacherScores


def keyed_generator(*key: object) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def epoch_order(query_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Positions of the queries in the order an epoch visits them; independent of their order in the file."""
    keys = [hashlib.sha256(f"{seed}\x1f{epoch}\x1f{query_id}".encode()).digest() for query_id in query_ids]
    return sorted(range(len(query_ids)), key=keys.__getitem__)


def rows_with_prefix(query_ids: Sequence[str], prefix: str | None) -> list[int]:
    """Positions of the queries a stage trains on."""
    rows = [row for row, query_id in enumerate(query_ids) if query_id.startswith(prefix or "")]
    if not rows:
        raise TrainingError(
            f"query_prefix {prefix!r}: none of the {len(query_ids)} train queries has an id that starts so; "
            f"the first is {next(iter(query_ids), 'missing')!r}"
        )
    return rows


@dataclass(frozen=True)
class GroupSampler:
    """Draws the group of a query: one positive, then negatives from the candidates.

    The negatives are the prefix of one keyed permutation per (seed, epoch, query): a smaller K is a subset of a
    larger one. Known positives, and documents with the text of one, are never negatives.
    """

    split: Split
    docs: Texts
    candidates: Candidates
    spec: GroupsSpec
    seed: int
    teacher: TeacherScores | None = None

    def group(self, query_row: int, epoch: int) -> Group:
        """The group of one query: the positive first, if the query has one; up to 1 + num_negatives documents."""
        grades = self.split.qrels.get(query_row, {})
        positives = sorted(row for row, grade in grades.items() if grade > 0)
        generator = keyed_generator(self.seed, epoch, self.split.queries.ids[query_row])
        chosen = [positives[int(generator.integers(len(positives)))]] if positives else []
        negatives = self._negatives(query_row, positives, generator)
        rows = chosen + negatives[: self.spec.num_negatives + 1 - len(chosen)]
        rows_K = np.asarray(rows, dtype=np.int32)
        label_K = np.asarray([max(grades.get(row, 0), 0) for row in rows], dtype=np.float32)
        return Group(query_row, rows_K, label_K, self._teacher(query_row, rows_K))

    def _negatives(self, query_row: int, positives: Sequence[int], generator: np.random.Generator) -> list[int]:
        seen = {self.docs.hashes[row] for row in positives}
        pool: list[int] = []
        for row in self.candidates.rows(query_row)[: self.spec.depth].tolist():
            if self.docs.hashes[row] not in seen:
                seen.add(self.docs.hashes[row])
                pool.append(row)
        return [pool[position] for position in self._order(query_row, pool, generator)]

    def _order(self, query_row: int, pool: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        if self.spec.strategy == "top":
            return range(len(pool))
        if self.spec.strategy == "teacher_top":
            scores = np.nan_to_num(self._teacher(query_row, np.asarray(pool, dtype=np.int32)), nan=-np.inf)
            return [int(position) for position in np.argsort(-scores, kind="stable")]
        # Weighted sampling without replacement: ascending exponential variates divided by the weights.
        variates = generator.exponential(size=len(pool))
        if self.spec.strategy == "log_random":
            variates = variates * (1.0 + np.arange(len(pool)))
        return [int(position) for position in np.argsort(variates, kind="stable")]

    def _teacher(self, query_row: int, rows_K: np.ndarray) -> np.ndarray:
        if self.teacher is None:
            return np.full(len(rows_K), np.nan, dtype=np.float32)
        return self.teacher.of(query_row, rows_K)


def scoring_pairs(
    split: Split, candidates: Candidates, depth: int | None, query_rows: Sequence[int] | None = None
) -> Mapping[int, list[int]]:
    """The documents a teacher has to score for each query: the candidates to a depth, and every labelled positive."""
    pairs: dict[int, list[int]] = {}
    for query_row in query_rows if query_rows is not None else range(len(split.queries)):
        rows = candidates.rows(query_row)[:depth].tolist()
        positives = [row for row, grade in sorted(split.qrels.get(query_row, {}).items()) if grade > 0]
        pairs[query_row] = list(dict.fromkeys([*rows, *positives]))
    return pairs
