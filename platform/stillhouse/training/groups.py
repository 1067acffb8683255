"""Groups: one query with K documents, drawn the same way on any number of workers, after a resume, in any trial."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.errors import TrainingError
from stillhouse.recipe.groups import GroupsSpec
from stillhouse.records import Group
from stillhouse.training.false_negatives import allowed
from stillhouse.training.uniform import uniform_rows

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Split, Texts
    from stillhouse.training.teacher import TeacherScores
    from stillhouse.training.triples import Triples

CHECKED_AT_ONCE = 64
"""Documents of the corpus whose teacher scores are looked up together."""


def keyed_generator(*key: object) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def epoch_order(query_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Positions of the queries in the order an epoch visits them; independent of their order in the file."""
    digests = (hashlib.sha256(f"{seed}\x1f{epoch}\x1f{query_id}".encode()).digest() for query_id in query_ids)
    # 32 bytes a query and not a list of objects; two digests never differ only in the zeros that numpy cuts off.
    order: list[int] = np.argsort(np.fromiter(digests, "S32", len(query_ids)), kind="stable").tolist()
    return order


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
    """Draws the group of a query: one positive, then negatives as the spec's strategy says.

    The negatives are the prefix of one keyed permutation per (seed, epoch, query): a smaller K is a subset of a
    larger one. Known positives, and documents with the text of one, are never negatives.
    """

    split: Split
    docs: Texts
    candidates: Candidates
    spec: GroupsSpec
    seed: int
    teacher: TeacherScores | None = None
    triples: Triples | None = None

    def group(self, query_row: int, epoch: int) -> Group:
        """The group of one query: the positive first, if the query has one; up to 1 + num_negatives documents.

        Without documents where the query has neither positive nor negatives, or no triple.
        """
        grades = self.split.qrels.get(query_row, {})
        positives = sorted(row for row, grade in grades.items() if grade > 0)
        generator = keyed_generator(self.seed, epoch, self.split.queries.ids[query_row])
        if self.triples is not None:
            chosen, pool = self._of_triples(self.triples, query_row, positives, generator)
            grades = grades | {row: max(grades.get(row, 0), 1) for row in chosen}
        else:
            chosen = [positives[int(generator.integers(len(positives)))]] if positives else []
            pool = self._of_collection(query_row, positives, generator)
        negatives, removed = self._negatives(query_row, chosen, pool)
        rows = chosen + negatives
        rows_K = np.asarray(rows, dtype=np.int32)
        label_K = np.asarray([max(grades.get(row, 0), 0) for row in rows], dtype=np.float32)
        return Group(query_row, rows_K, label_K, self._floored(query_row, rows_K, positives), removed)

    def _negatives(self, query_row: int, chosen: Sequence[int], pool: Iterable[int]) -> tuple[list[int], int]:
        """The first documents of the pool that may be negatives, and how many of it the teacher's margin removed."""
        count = self.spec.num_negatives + 1 - len(chosen)
        if self.spec.false_negative_margin is None or not chosen:
            return list(islice(pool, count)), 0
        bound_by = float(self._teacher(query_row, np.asarray(chosen[:1]))[0])
        kept: list[int] = []
        removed = 0
        rows = iter(pool)
        while block := list(islice(rows, CHECKED_AT_ONCE)):
            fine = allowed(self._teacher(query_row, np.asarray(block)), bound_by, self.spec)
            removed += len(block) - int(fine.sum())
            kept += [row for row, keep in zip(block, fine, strict=True) if keep]
            if self.spec.strategy == "uniform" and len(kept) >= count:
                break
        return kept[:count], removed

    def _of_collection(self, query_row: int, positives: Sequence[int], generator: np.random.Generator) -> Iterable[int]:
        """Possible negatives in the order of the strategy, one per text, without known positives."""
        seen = {self.docs.hashes[row] for row in positives}
        if self.spec.strategy == "uniform":
            return self._distinct(uniform_rows(generator, len(self.docs)), seen)
        pool = list(self._distinct(self.candidates.rows(query_row)[: self.spec.depth].tolist(), seen))
        return [pool[position] for position in self._order(query_row, pool, generator)]

    def _of_triples(
        self, triples: Triples, query_row: int, positives: Sequence[int], generator: np.random.Generator
    ) -> tuple[list[int], Iterable[int]]:
        """The positive of the first of the query's triples in a keyed order, and the negatives of all in that order."""
        positives_T, negatives_T = triples.of(query_row)
        if not len(positives_T):
            return [], []
        order_T = np.argsort(generator.exponential(size=len(positives_T)), kind="stable")
        seen = {self.docs.hashes[row] for row in (*positives, *np.unique(positives_T).tolist())}
        return [int(positives_T[order_T[0]])], self._distinct(negatives_T[order_T].tolist(), seen)

    def _distinct(self, rows: Iterable[int], seen: set[str]) -> Iterable[int]:
        for row in rows:
            if self.docs.hashes[row] not in seen:
                seen.add(self.docs.hashes[row])
                yield row

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

    def _floored(self, query_row: int, rows_K: np.ndarray, positives: Sequence[int]) -> np.ndarray:
        """Teacher scores of a group; what no store knows of the corpus stands at the floor, if the spec says so."""
        teacher_K = self._teacher(query_row, rows_K)
        if self.spec.strategy != "uniform" or self.spec.unscored != "floor":
            return teacher_K
        rows = dict.fromkeys([*self.candidates.rows(query_row)[: self.spec.depth].tolist(), *positives])
        return at_floor(teacher_K, self._teacher(query_row, np.asarray(list(rows), dtype=np.int32)))

    def _teacher(self, query_row: int, rows_K: np.ndarray) -> np.ndarray:
        if self.teacher is None:
            return np.full(len(rows_K), np.nan, dtype=np.float32)
        return self.teacher.of(query_row, rows_K)


def at_floor(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Scores with the lowest of the `known` ones where there is none.

    Unchanged with fewer than two known: a lone score is the positive's, and no floor below it.
    """
    known = known[~np.isnan(known)]
    return np.where(np.isnan(scores), known.min(), scores).astype(np.float32) if len(known) > 1 else scores


def scoring_pairs(
    split: Split,
    candidates: Candidates,
    depth: int | None,
    query_rows: Sequence[int] | None = None,
    triples: Sequence[Triples] = (),
) -> Mapping[int, list[int]]:
    """The documents a teacher has to score for each query: candidates to a depth, labelled positives, triples."""
    pairs: dict[int, list[int]] = {}
    for query_row in query_rows if query_rows is not None else range(len(split.queries)):
        rows = candidates.rows(query_row)[:depth].tolist()
        positives = [row for row, grade in sorted(split.qrels.get(query_row, {}).items()) if grade > 0]
        listed = [row for each in triples for column in each.of(query_row) for row in column.tolist()]
        pairs[query_row] = list(dict.fromkeys([*rows, *positives, *listed]))
    return pairs
