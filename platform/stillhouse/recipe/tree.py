"""The recipe: one frozen tree that holds a whole run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from stillhouse.recipe import checks
from stillhouse.recipe.address import check_address
from stillhouse.recipe.base import Count, Spec
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.groups import GroupsSpec
from stillhouse.recipe.losses import WITHOUT_TEACHER, ExtraLossSpec, LossSpec
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
from stillhouse.recipe.search import SearchSpec

Rate = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class OutputSpec(Spec):
    path: str
    """Folder for the table, the rankers and the runs."""

    @field_validator("path")
    @classmethod
    def _is_a_folder(cls, path: str) -> str:
        return checks.check_folder(path)


class CollectionSpec(Spec):
    train: str
    """ir_datasets id, or a folder with corpus, queries and qrels files; it may begin with `$STILLHOUSE_DATA/`."""
    dev: str
    """Every choice is made on this split."""
    test: str
    """Looked at once, at the end."""
    max_train_queries: Count | None = None
    """Use a seeded sample of the queries; None uses all."""
    max_dev_queries: Count | None = None
    max_test_queries: Count | None = None
    seed: Seed | None = None
    """Of the sample; None uses the recipe's, so that another seed also means other queries."""
    keep_unlabelled: bool = False
    """Keep train queries without a positive document: distillation needs no labels."""
    packages: tuple[str, ...] = ("stdlib", "numpy", "pandas", "torch", "transformers")
    """Only for stillhouse/pydocs: where the docstrings come from (parsed, never imported)."""


class CandidatesSpec(Spec):
    source: str = "bm25"
    """`bm25`, `scoreddocs`, or a TREC run with `{split}` in its path; `RUN or bm25` where not all splits have one."""
    depth: Count = 30
    """Candidates per query."""
    k1: Annotated[float, Field(ge=0)] = 0.9
    b: Annotated[float, Field(ge=0, le=1)] = 0.4


class OptimizerSpec(Spec):
    name: Literal["adamw", "adam"] = "adamw"
    learning_rate: Rate = 2.0e-5
    """Highest rate of the schedule, for the backbone."""
    head_learning_rate: Rate | None = None
    """Rate of parameters that start fresh; None uses `learning_rate`."""
    kernel_learning_rate: Rate | None = None
    """Rate of the kernels' weights of a `tk` ranker; None uses the head's."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to biases and norms."""
    schedule: Literal["linear", "cosine", "constant", "plateau"] = "linear"
    """After the warm-up: down to 0 in a line or a cosine, constant, or down by a factor where dev stands still."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the stage's steps."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """`plateau` multiplies the rate by it."""
    plateau_patience: Count = 1
    """`plateau`: after this many dev evaluations in a row that are not the best so far."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class StageSpec(Spec):
    """One training pass with its own loss, groups and optimiser."""

    loss: LossSpec
    extra_losses: dict[Name, ExtraLossSpec] = {}
    """Further losses added to `loss`, each with its own weight, logged under its key."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the queries' and documents' tokens left out of the input in training (Menon et al. 2022, App. C.10)."""
    query_prefix: str | None = None
    """Train on the queries whose id starts so: data of its own for a stage; None takes all train queries."""
    groups: GroupsSpec = GroupsSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    epochs: Count = 1
    max_steps: Count | None = None
    """Stop after this many steps; None trains all epochs."""
    queries_per_step: Count = 32
    """Queries in one optimiser step, over all workers."""
    queries_per_forward: Count | Literal["auto"] = 8
    """Queries in one forward pass of one worker; changes memory, not the result; `auto`: the most that fit."""
    evaluations: Annotated[int, Field(ge=1)] = 4
    """Dev evaluations, evenly spaced over the stage."""
    early_stopping: Count | None = None
    """End the stage after this many dev evaluations in a row that are not the best so far; None trains all steps."""
    restore_best: bool = True
    """End with the weights of the best dev evaluation instead of the last."""

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        checks.check_loss_names(self.extra_losses)
        checks.check_patience(self)
        return self

    def reads_teacher(self) -> list[str]:
        """What of it reads teacher scores: its losses by name, `teacher_top`, `false_negative_margin`."""
        losses = (self.loss, *self.extra_losses.values())
        found = [f"loss: {loss.name}" for loss in losses if loss.name not in WITHOUT_TEACHER]
        if self.groups.strategy == "teacher_top":
            found.append("groups.strategy: teacher_top")
        if self.groups.false_negative_margin is not None:
            found.append("groups.false_negative_margin")
        return found


class ScoresTeacher(Spec):
    """A teacher whose scores already exist."""

    scores: str
    """Run file or score file: query, document, score."""
    scale: Literal["logit", "probability", "grade", "order"] = "logit"
    """What its scores are; losses that need magnitudes refuse `order`."""


class _Trained(Spec):
    stages: dict[Name, StageSpec] = {}
    """How the teacher itself is trained, on the labels; none: it is used as it is."""
    seed: Seed | None = None
    """Of its training; None uses the recipe's, so that another seed also means another teacher."""


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
        return next((kind for kind in ("scores", "endpoint") if kind in value), value.get("ranker"))
    return next((kind for kind in ("scores", "endpoint") if hasattr(value, kind)), getattr(value, "ranker", None))


TeacherSpec = Annotated[
    Annotated[ScoresTeacher, Tag("scores")]
    | Annotated[EndpointTeacher, Tag("endpoint")]
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
    path: Annotated[str, AfterValidator(check_address)] = ".stillhouse/scores"
    """A folder, or the URI of one in an object store, e.g. `s3://bucket/prefix`."""
    partitions: Count = 16
    """Files that a store is split into; a shard in flight is what a kill can lose."""
    actors: Annotated[int, Field(ge=0)] | None = None
    """Scoring actors; None takes what the cluster has, less one CPU. 0 scores in the command's process, without Ray."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the teacher's weights; `auto`: bfloat16 on a GPU and on a CPU that multiplies it natively, else float32."""
    parity_check: Annotated[int, Field(ge=0)] = 0
    """Pairs scored in float32 on a CPU as well before a job, to see what dtype and backend change."""
    parity_tolerance: Annotated[float, Field(gt=0)] = 0.1
    """Largest difference that passes, in standard deviations of the float32 scores."""


class _Workers(Spec):
    min_workers: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Train with as few while nodes are missing, and with more as they come, up to `num_workers`; None: always all."""

    @model_validator(mode="after")
    def _workers_are_connected(self) -> Self:
        checks.check_workers(getattr(self, "num_workers", 1), getattr(self, "sharding", "auto"), self.min_workers)
        return self


class ScaleSpec(_Workers):
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
    # Left out of dumps where they are not used: keys of trainings made without them stay as they are.
    train_queries: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Measure this many train queries too at each dev evaluation, a seeded sample: `train/nDCG@10` beside dev."""
    score_queries: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Keep the scores of this many dev queries before the first step and at each evaluation, for histograms."""

    @model_validator(mode="after")
    def _select_by_is_measured(self) -> EvaluationSpec:
        if self.select_by not in self.measures:
            raise ValueError(f"select_by {self.select_by!r} is not one of measures {list(self.measures)}")
        return self


class TrackingSpec(Spec):
    uri: Annotated[str, AfterValidator(check_address)] = "sqlite:///.stillhouse/mlflow.db"
    """MLflow tracking URI; `none` records nothing. A login stands in the environment only."""
    experiment: str = "stillhouse"


class RetrainSpec(_Workers):
    """How the winner is trained again."""

    num_workers: Count = 2
    sharding: Literal["auto", "none", "ddp", "fsdp"] = "fsdp"


class Recipe(Spec):
    """A whole run. Dotted keys of this tree are the one path for command line, search and tests."""

    name: Name
    seed: Seed = 0
    output: OutputSpec
    collection: CollectionSpec
    candidates: CandidatesSpec = CandidatesSpec()
    teachers: dict[Name, TeacherSpec] = {}
    """Several are an ensemble: the mean of their raw scores (Hofstaetter et al., T2). None is needed where every stage
    learns from the labels only. `{preset: NAME}` is a public reranker (`stillhouse list presets`)."""
    teacher_selection: Literal["mean", "best_on_dev"] | tuple[Name, ...] = "mean"
    """`best_on_dev` tries each teacher and their mean, and keeps the best on dev; a list is the mean of those named."""
    store: StoreSpec = StoreSpec()
    student: RankerSpec
    stages: dict[Name, StageSpec]
    """Ordered: each stage starts from the weights of the one before."""
    search: SearchSpec | None = None
    retrain: RetrainSpec = RetrainSpec()
    baselines: dict[Name, dict[str, Any]] = {}
    """Students trained for comparison: dotted overrides of the winning recipe, e.g. another loss. `teacher_selection`
    may be among them; other stages are given as a whole, with the key `stages`."""
    scale: ScaleSpec = ScaleSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    tracking: TrackingSpec = TrackingSpec()

    def teaching(self) -> dict[str, TeacherSpec]:
        """The teachers that `teacher_selection` leaves to choose from, or to average."""
        if isinstance(self.teacher_selection, str):
            return self.teachers
        unknown = [name for name in self.teacher_selection if name not in self.teachers]
        if unknown or not self.teacher_selection:
            named = f"no teacher {unknown[0]}" if unknown else "names no teacher"
            raise ValueError(f"teacher_selection: {named}; the recipe has {', '.join(self.teachers)}")
        return {name: self.teachers[name] for name in self.teacher_selection}

    @model_validator(mode="after")
    def _has_parts(self) -> Recipe:
        if not self.teachers and any(stage.reads_teacher() for stage in self.stages.values()):
            raise ValueError("teachers: at least one teacher is needed")
        if not self.stages:
            raise ValueError("stages: at least one stage is needed")
        self.teaching()
        checks.check_mlm("student", self.student, self.stages)
        for name, teacher in self.teachers.items():
            checks.check_mlm(f"teachers.{name}", teacher, getattr(teacher, "stages", {}))
        for name, stage in self.stages.items():
            depth = stage.groups.depth
            if depth is not None and depth > self.candidates.depth:
                raise ValueError(
                    f"stages.{name}.groups.depth is {depth}, but candidates.depth gives only {self.candidates.depth}"
                )
        return self
