"""A training as plain data: what a worker on any node needs to run it, and the key that names its result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from stillhouse.artifacts import stable_hash
from stillhouse.candidates import Candidates, candidates_for
from stillhouse.collection import Collection, open_collection
from stillhouse.collection.tokens import TokenIds, token_ids
from stillhouse.recipe.base import Spec
from stillhouse.recipe.rankers import RankerSpec
from stillhouse.recipe.tree import CandidatesSpec, EvaluationSpec, ScaleSpec, StageSpec
from stillhouse.training.groups import GroupSampler
from stillhouse.training.teacher import TeacherScores

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

S = TypeVar("S", bound=Spec)
Report = Callable[[dict[str, float], int], None]
"""Called with the metrics of a dev evaluation and the step it was made at; may raise to stop the training."""


@dataclass(frozen=True)
class TrainingJob:
    """Plain JSON-able data; paths are on storage that every node sees."""

    ranker: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    seed: int
    evaluation: dict[str, Any]
    scale: dict[str, Any]
    candidates: dict[str, Any]
    collection: str
    collection_digest: str
    workspace: str
    teacher_scores: str | None = None
    teacher_key: str | None = None
    backbone_digest: str = ""
    candidates_key: str = ""

    @property
    def key(self) -> str:
        """Equal for trainings that give equal results, wherever their files are."""
        plain = asdict(self)
        for place in ("collection", "workspace", "teacher_scores"):
            plain.pop(place)
        # The hash sorts mappings by key, and the order of stages counts.
        return stable_hash(plain | {"order": list(self.stages)})

    @property
    def ranker_spec(self) -> Any:
        return TypeAdapter(RankerSpec).validate_python(self.ranker)

    @property
    def stage_specs(self) -> dict[str, StageSpec]:
        return {name: _spec(StageSpec, stage) for name, stage in self.stages.items()}

    @property
    def evaluation_spec(self) -> EvaluationSpec:
        return _spec(EvaluationSpec, self.evaluation)

    @property
    def scale_spec(self) -> ScaleSpec:
        return _spec(ScaleSpec, self.scale)


@dataclass(frozen=True)
class TrainingData:
    """What the loop reads; loaded once per process."""

    collection: Collection
    train_candidates: Candidates
    dev_candidates: Candidates
    doc_ids: TokenIds
    train_query_ids: TokenIds
    dev_query_ids: TokenIds
    teacher: TeacherScores | None

    def sampler(self, stage: StageSpec, seed: int) -> GroupSampler:
        split = self.collection.splits["train"]
        return GroupSampler(split, self.collection.docs, self.train_candidates, stage.groups, seed, self.teacher)


def load_data(job: TrainingJob, ranker: Ranker) -> TrainingData:
    """The job's data; the second call in a process with the same files is free (reused trial actors)."""
    root = Path(job.workspace)
    collection = _collection(job.collection)
    spec = _spec(CandidatesSpec, job.candidates)
    return TrainingData(
        collection,
        candidates_for(spec, collection, "train", root),
        candidates_for(spec, collection, "dev", root),
        token_ids(collection.docs, ranker, root),
        token_ids(collection.splits["train"].queries, ranker, root),
        token_ids(collection.splits["dev"].queries, ranker, root),
        _teacher(job.teacher_scores) if job.teacher_scores else None,
    )


@functools.lru_cache(maxsize=2)
def _collection(path: str) -> Collection:
    return open_collection(Path(path))


@functools.lru_cache(maxsize=2)
def _teacher(path: str) -> TeacherScores:
    return TeacherScores.read(Path(path))


def _spec(kind: type[S], value: Mapping[str, Any]) -> S:
    # Not strict about list against tuple: the values come from a checked recipe's JSON.
    return kind.model_validate(dict(value), strict=False)
