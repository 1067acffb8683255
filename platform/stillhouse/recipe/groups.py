"""What a recipe can say about groups: which documents stand beside the positive of a query."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stillhouse.recipe.base import Spec

UNSCORED = ("in_batch", "uniform")
"""Strategies whose negatives hold documents that no teacher has scored for the query."""


class GroupsSpec(Spec):
    strategy: Literal["random", "top", "teacher_top", "log_random", "triples", "in_batch", "uniform"] = "random"
    """Negatives: `random` of the candidates, `top` in first-stage order, `teacher_top` in the teacher's order,
    `log_random` by weights 1 / rank, `triples` of a file, `in_batch` the documents of the step's other queries beside
    `num_negatives` random candidates, `uniform` from the whole corpus."""
    num_negatives: Annotated[int, Field(ge=0)] = 7
    """K = 1 + num_negatives. 1 for `triples` where left out; 0 only for `in_batch`."""
    depth: Annotated[int, Field(ge=1)] | None = None
    """Draw from the first `depth` candidates; None draws from all."""
    triples: str | None = None
    """For `triples`: file of `query_id positive_id negative_id` lines with tabs between, plain or .gz."""
    unscored: Literal["floor", "label_only", "score_on_the_fly"] | None = None
    """Teacher score of an `in_batch` or `uniform` negative that no store holds; needed where a loss reads teacher
    scores. `floor`: the lowest score of the query's own group (`uniform`: of its candidates); `label_only`: none, so
    only losses on labels see it; `score_on_the_fly`: the teacher scores it during the training."""
    false_negative_margin: float | None = None
    """Negatives that the teacher scores above a bound set by the positive are left out. None keeps them."""
    false_negative_margin_kind: Literal["absolute", "relative"] = "absolute"
    """The bound: the positive's score minus the margin, or times the margin (a fraction in (0, 1]; a positive scored
    0 or less is itself the bound)."""

    @model_validator(mode="before")
    @classmethod
    def _one_negative_a_triple(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("strategy") == "triples" and "num_negatives" not in data:
            return {**data, "num_negatives": 1}
        return data

    @model_validator(mode="after")
    def _keys_fit_together(self) -> GroupsSpec:
        strategy = self.strategy
        if self.num_negatives == 0 and strategy != "in_batch":
            raise ValueError(f"num_negatives is 0, but strategy {strategy} needs at least 1; only in_batch takes 0")
        if strategy == "triples" and self.triples is None:
            raise ValueError("strategy triples needs a file of triples: set triples to its path")
        if strategy != "triples" and self.triples is not None:
            raise ValueError(f"triples is set, but strategy {strategy} does not read it; set strategy: triples")
        if strategy == "triples" and self.depth is not None:
            raise ValueError("depth is of the candidates, but strategy triples does not read them; leave it out")
        if strategy not in UNSCORED and self.unscored is not None:
            raise ValueError(f"unscored is for {' and '.join(UNSCORED)}, but strategy is {strategy}; leave it out")
        margin = self.false_negative_margin
        if self.false_negative_margin_kind == "relative" and (margin is None or not 0 < margin <= 1):
            raise ValueError(f"false_negative_margin is {margin}, but relative is a fraction: above 0, at most 1")
        return self
