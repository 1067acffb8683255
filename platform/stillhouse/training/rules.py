"""Which groups, losses and rankers go together: one line for what cannot work, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.errors import RecipeError
from stillhouse.losses import LOSSES
from stillhouse.rankers import RANKERS
from stillhouse.rankers.dual_encoder import DualEncoder
from stillhouse.recipe.groups import UNSCORED, GroupsSpec
from stillhouse.recipe.tree import StageSpec


def drawn_depth(groups: GroupsSpec, candidates_depth: int) -> int:
    """How many candidates of a query the teacher has to score for groups like these."""
    if groups.strategy == "triples" or (groups.strategy == "uniform" and groups.unscored != "floor"):
        return 0
    return groups.depth or candidates_depth


def check_stages(stages: Mapping[str, StageSpec], ranker: str, *, taught: bool, live: bool, place: str) -> None:
    """RecipeError for the first stage that cannot work. `place` is where the stages stand in the recipe.

    `taught`: there are teacher scores; `live`: every teacher is a ranker that can score during the training.
    """
    for name, stage in stages.items():
        problem = _problem(stage, ranker, taught=taught, live=live)
        if problem:
            raise RecipeError(f"{place}.{name}.{problem}")


def _problem(stage: StageSpec, ranker: str, *, taught: bool, live: bool) -> str | None:
    groups, reads = stage.groups, stage.reads_teacher()
    if reads and not taught:
        return f"{reads[0]} reads teacher scores, but there are none here: teachers learn from labels alone"
    if stage.optimizer.kernel_learning_rate is not None and not RANKERS[ranker].has_kernels:
        return f"optimizer.kernel_learning_rate: {ranker} has no kernels; take the key out"
    if groups.strategy == "in_batch":
        if not issubclass(RANKERS[ranker], DualEncoder):
            return f"groups.strategy: in_batch compares two vectors by one product, but the ranker is a {ranker}"
        if stage.queries_per_step < 2:
            return "queries_per_step: 1 query has no others to take negatives from; in_batch needs at least 2"
    if groups.strategy in UNSCORED:
        return _problem_of_unscored(stage, live=live)
    return None


def _problem_of_unscored(stage: StageSpec, *, live: bool) -> str | None:
    """A stage whose negatives hold documents that no teacher has scored for the query."""
    groups = stage.groups
    losses = {
        loss.name: LOSSES[loss.name] for loss in (stage.loss, *stage.extra_losses.values()) if loss.name in LOSSES
    }
    reading = [name for name, loss in losses.items() if loss.needs_teacher]
    if groups.unscored is None and reading:
        return (
            f"groups.unscored: missing; loss {reading[0]} reads teacher scores and {groups.strategy} negatives have "
            "none: set floor, label_only or score_on_the_fly"
        )
    if groups.unscored == "score_on_the_fly" and not live:
        return "groups.unscored: score_on_the_fly needs teachers that are rankers, and scores are imported; set floor"
    alone = groups.strategy == "uniform" or groups.num_negatives == 0
    if groups.unscored == "floor" and groups.strategy == "in_batch" and groups.num_negatives == 0:
        return (
            "groups.unscored: floor is the lowest score of a query's own group, which is the positive's; set "
            "num_negatives to 1 or more"
        )
    if groups.unscored == "label_only" and alone and len(reading) == len(losses):
        return (
            f"groups.unscored: label_only leaves the positive alone with a teacher score, so {reading[0]} has nothing "
            "to learn; add a loss on labels, or set score_on_the_fly"
        )
    return None
