"""The recipe: one frozen tree that holds a whole run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from stillhouse.recipe.base import Spec
from stillhouse.recipe.losses import LossSpec
from stillhouse.recipe.rankers import (
    CausalLmSpec,
    ColbertSpec,
    CrossEncoderSpec,
    DualEncoderSpec,
    PrettrSpec,
    RankerSpec,
    RecurrentSpec,
    TkSpec,
)

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class OutputSpec(Spec):
    path: str
    """Folder for the table, the rankers and the runs."""


class CollectionSpec(Spec):
    train: str
    """ir_datasets id, or a folder with corpus, queries and qrels files."""
    dev: str
    """Every choice is made on this split."""
    test: str
    """Looked at once, at the end."""
    max_train_queries: Count | None = None
    """Use a seeded sample of the queries; None uses all."""
    max_dev_queries: Count | None = None
    max_test_queries: Count | None = None
    packages: tuple[str, ...] = ("stdlib", "numpy", "pandas", "torch", "transformers")
    """Only for stillhouse/pydocs: where the docstrings come from (parsed, never imported)."""


class CandidatesSpec(Spec):
    source: str = "bm25"
    """`bm25`, `scoreddocs`, or the path of a TREC run with `{split}` in it."""
    depth: Count = 30
    """Candidates per query."""
    k1: Annotated[float, Field(ge=0)] = 0.9
    b: Annotated[float, Field(ge=0, le=1)] = 0.4


class GroupsSpec(Spec):
    strategy: Literal["random", "top", "teacher_top", "log_random"] = "random"
    """How negatives are drawn from the candidates."""
    num_negatives: Count = 7
    """K = 1 + num_negatives."""
    depth: Count | None = None
    """Draw from the first `depth` candidates; None draws from all."""


class OptimizerSpec(Spec):
    name: Literal["adamw", "adam"] = "adamw"
    learning_rate: Rate = 2.0e-5
    """Highest rate of the schedule, for the backbone."""
    head_learning_rate: Rate | None = None
    """Rate of parameters that start fresh; None uses `learning_rate`."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to biases and norms."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the stage's steps."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class StageSpec(Spec):
    """One training pass with its own loss, groups and optimiser."""

    loss: LossSpec
    extra_losses: dict[str, LossSpec] = {}
    """Further losses added to `loss`, each with its own weight, logged under its key."""
    groups: GroupsSpec = GroupsSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    epochs: Count = 1
    max_steps: Count | None = None
    """Stop after this many steps; None trains all epochs."""
    queries_per_step: Count = 32
    """Queries in one optimiser step, over all workers."""
    queries_per_forward: Count = 8
    """Queries in one forward pass of one worker; changes memory, not the result."""
    evaluations: Annotated[int, Field(ge=1)] = 4
    """Dev evaluations, evenly spaced over the stage."""
    restore_best: bool = True
    """End with the weights of the best dev evaluation instead of the last."""


class ScoresTeacher(Spec):
    """A teacher whose scores already exist."""

    scores: str
    """Run file or score file: query, document, score."""
    scale: Literal["logit", "probability", "grade", "order"] = "logit"
    """What its scores are; losses that need magnitudes refuse `order`."""


class _Trained(Spec):
    stages: dict[Name, StageSpec] = {}
    """How the teacher itself is trained, on the labels; none: it is used as it is."""


class CrossEncoderTeacher(_Trained, CrossEncoderSpec):
    """A cross-encoder, trained by its own stages first."""


class DualEncoderTeacher(_Trained, DualEncoderSpec):
    """A dual encoder, trained by its own stages first."""


class ColbertTeacher(_Trained, ColbertSpec):
    """A late-interaction ranker, trained by its own stages first."""


class PrettrTeacher(_Trained, PrettrSpec):
    """A PreTTR, trained by its own stages first."""


class TkTeacher(_Trained, TkSpec):
    """A Transformer-Kernel, trained by its own stages first."""


class CausalLmTeacher(_Trained, CausalLmSpec):
    """A causal language model, trained by its own stages first."""


class RecurrentTeacher(_Trained, RecurrentSpec):
    """A recurrent language model, trained by its own stages first."""


def _teacher_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "scores" if "scores" in value else value.get("ranker")
    return "scores" if isinstance(value, ScoresTeacher) else getattr(value, "ranker", None)


TeacherSpec = Annotated[
    Annotated[ScoresTeacher, Tag("scores")]
    | Annotated[CrossEncoderTeacher, Tag("cross_encoder")]
    | Annotated[DualEncoderTeacher, Tag("dual_encoder")]
    | Annotated[ColbertTeacher, Tag("colbert")]
    | Annotated[PrettrTeacher, Tag("prettr")]
    | Annotated[TkTeacher, Tag("tk")]
    | Annotated[CausalLmTeacher, Tag("causal_lm")]
    | Annotated[RecurrentTeacher, Tag("recurrent")],
    Discriminator(_teacher_kind),
]


class StoreSpec(Spec):
    path: str = ".stillhouse/scores"
    """A folder, or the URI of one in an object store, e.g. `s3://bucket/prefix`."""
    partitions: Count = 16
    """Files that a store is split into; a shard in flight is what a kill can lose."""
    actors: Count | None = None
    """Scoring actors; None takes what the cluster has, less one CPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    parity_check: Annotated[int, Field(ge=0)] = 0
    """Pairs scored in float32 on a CPU as well before a job, to see what dtype and backend change."""
    parity_tolerance: Annotated[float, Field(gt=0)] = 0.1
    """Largest difference that passes, in standard deviations of the float32 scores."""


class ScaleSpec(Spec):
    num_workers: Count = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    cpus_per_worker: Annotated[float, Field(gt=0)] | None = None
    """None shares what the cluster has."""
    sharding: Literal["auto", "none", "ddp", "fsdp"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the forward pass; weights and optimiser stay float32."""


class EvaluationSpec(Spec):
    measures: tuple[str, ...] = ("nDCG@10", "RR@10")
    """ir_measures names."""
    depth: Count = 30
    """Candidates re-ranked per query."""
    dev_depth: Count | None = None
    """Candidates re-ranked per dev query while training; None: `depth`."""
    select_by: str = "nDCG@10"
    """Measure on dev that picks checkpoints, trials and teachers."""

    @model_validator(mode="after")
    def _select_by_is_measured(self) -> EvaluationSpec:
        if self.select_by not in self.measures:
            raise ValueError(f"select_by {self.select_by!r} is not one of measures {list(self.measures)}")
        return self


class TrackingSpec(Spec):
    uri: str = "sqlite:///.stillhouse/mlflow.db"
    """MLflow tracking URI; `none` records nothing."""
    experiment: str = "stillhouse"


class SearchSpec(Spec):
    """The search that `stillhouse run` makes before it trains the winner."""

    space: str = "temperature_negatives_lr"
    """Name or path of a search space."""
    trials: Count | None = None
    """None uses the space's own number."""
    overrides: dict[str, Any] = {}
    """Dotted overrides of the recipe that hold in trials only, e.g. a smaller `max_steps`."""


class RetrainSpec(Spec):
    """How the winner is trained again."""

    num_workers: Count = 2
    sharding: Literal["auto", "none", "ddp", "fsdp"] = "fsdp"


class Recipe(Spec):
    """A whole run. Dotted keys of this tree are the one path for command line, search and tests."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    output: OutputSpec
    collection: CollectionSpec
    candidates: CandidatesSpec = CandidatesSpec()
    teachers: dict[Name, TeacherSpec]
    """Several are an ensemble: the mean of their raw scores (Hofstaetter et al., T2)."""
    teacher_selection: Literal["mean", "best_on_dev"] = "mean"
    """`best_on_dev` tries each teacher and their mean, and keeps the best on dev."""
    store: StoreSpec = StoreSpec()
    student: RankerSpec
    stages: dict[Name, StageSpec]
    """Ordered: each stage starts from the weights of the one before."""
    search: SearchSpec | None = None
    retrain: RetrainSpec = RetrainSpec()
    baselines: dict[Name, dict[str, Any]] = {}
    """Students trained for comparison: dotted overrides of the winning recipe, e.g. another loss."""
    scale: ScaleSpec = ScaleSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _has_parts(self) -> Recipe:
        if not self.teachers:
            raise ValueError("teachers: at least one teacher is needed")
        if not self.stages:
            raise ValueError("stages: at least one stage is needed")
        for name, stage in self.stages.items():
            depth = stage.groups.depth
            if depth is not None and depth > self.candidates.depth:
                raise ValueError(
                    f"stages.{name}.groups.depth is {depth}, but candidates.depth gives only {self.candidates.depth}"
                )
        return self
