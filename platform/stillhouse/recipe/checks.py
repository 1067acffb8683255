"""Rules over several keys of a recipe: ValueError, in one line, for what cannot work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from stillhouse.recipe.losses import MLM_RANKERS, Mlm

if TYPE_CHECKING:
    from stillhouse.recipe.tree import StageSpec

LOGGED = frozenset(
    """
    loss step time grad_norm learning_rate queries_per_forward ce kl teacher_pairwise_accuracy saturated_teacher
    positive_score negative_score score_range normalised_margin score_variance false_negatives_removed
    queries_per_second step_seconds evaluation_seconds
    """.split()  # noqa: SIM905 (a list of 19 strings is harder to read)
)
"""What a training logs besides its extra losses: the stage's own loss, the curve's fields, diagnostics, speed."""


def check_loss_names(names: Collection[str]) -> None:
    """An extra loss is logged under its key, which no other number may have."""
    taken = sorted(LOGGED.intersection(names))
    if taken:
        raise ValueError(f"extra_losses.{taken[0]}: {taken[0]} is logged already; take another name, e.g. {taken[0]}_2")


def check_patience(stage: StageSpec) -> None:
    """The first evaluation is the best so far, so one fewer than all can be in a row that are not."""
    patience = {"early_stopping": stage.early_stopping}
    if stage.optimizer.schedule == "plateau":
        patience["optimizer.plateau_patience"] = stage.optimizer.plateau_patience
    for key, count in patience.items():
        if count is not None and count >= stage.evaluations:
            raise ValueError(
                f"{key} {count} never acts in {stage.evaluations} evaluations; raise evaluations or lower it"
            )


def check_mlm(place: str, ranker: Any, stages: Mapping[str, StageSpec]) -> None:
    """`mlm` runs on some rankers only; `place` is where the one that these stages train stands."""
    for name, stage in stages.items():
        for key, loss in stage.extra_losses.items():
            if isinstance(loss, Mlm) and ranker.ranker not in MLM_RANKERS:
                raise ValueError(
                    f"stages.{name}.extra_losses.{key}: mlm runs on {', '.join(MLM_RANKERS)}, but {place} is "
                    f"{ranker.ranker}"
                )


def check_workers(num_workers: int, sharding: str, min_workers: int | None = None) -> None:
    """Several workers have to exchange gradients; the least of them are no more than all."""
    if min_workers is not None and min_workers > num_workers:
        raise ValueError(f"min_workers {min_workers} is more than num_workers {num_workers}; lower it")
    if sharding == "none" and num_workers > 1:
        raise ValueError(
            f"sharding none trains {num_workers} copies that know nothing of each other: set num_workers to 1, or "
            "sharding to auto, ddp or fsdp"
        )


def check_folder(path: str) -> str:
    """Rankers and checkpoints are renamed into place and appended to, which no object store can do."""
    if "://" in path:
        raise ValueError(
            f"{path} is no folder: give one on storage that all nodes mount; only store.path may be a URI such as s3://"
        )
    return path
