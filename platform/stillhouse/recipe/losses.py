"""What a recipe can say about a loss. The names and parameters are those of `stillhouse.losses.LOSSES`.

Kept apart from the functions so that reading a recipe needs no torch; a test compares both.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.recipe.base import Spec

Positive = Annotated[float, Field(gt=0)]


class _Loss(Spec):
    weight: Positive = 1.0
    """Factor of this loss in the sum of a stage's losses."""


class Contrastive(_Loss):
    name: Literal["contrastive"]
    temperature: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Ranknet(_Loss):
    name: Literal["ranknet"]


class LabelMse(_Loss):
    name: Literal["label_mse"]


class Focal(_Loss):
    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0)] = 2.0


class PointwiseMse(_Loss):
    name: Literal["pointwise_mse"]
    reduction: Literal["sum", "mean"] = "sum"


class MarginMse(_Loss):
    name: Literal["margin_mse"]
    pair_reduction: Literal["mean", "sum"] = "mean"


class _Softened(_Loss):
    temperature: Positive = 1.0
    """Divides the student's scores, and the teacher's unless `teacher_temperature` is given."""
    teacher_temperature: Positive | None = None
    scale_by_temperature_squared: bool = True
    """Multiply by the student's temperature squared, so that the gradient's scale moves less with it."""


class SoftmaxCe(_Softened):
    name: Literal["softmax_ce"]


class Kl(_Softened):
    name: Literal["kl"]


class M3se(_Loss):
    name: Literal["m3se"]
    hinge_power: Literal[1, 2] = 1


class RankdistilB(_Loss):
    name: Literal["rankdistil_b"]
    gamma0: float = 0.0
    hinge_power: Literal[1, 2] = 2


class RanknetMarginWeighted(_Loss):
    name: Literal["ranknet_margin_weighted"]


class RanknetOrder(_Loss):
    name: Literal["ranknet_order"]


class RanknetRankWeighted(_Loss):
    name: Literal["ranknet_rank_weighted"]


class MseRanknet(_Loss):
    name: Literal["mse_ranknet"]


class Listnet(_Loss):
    name: Literal["listnet"]


class Listmle(_Loss):
    name: Literal["listmle"]


class ApproxNdcg(_Loss):
    name: Literal["approx_ndcg"]
    temperature: Positive = 1.0


class LambdaRank(_Loss):
    name: Literal["lambda_rank"]


class AdrMse(_Loss):
    name: Literal["adr_mse"]
    temperature: Positive = 1.0


class Mlm(_Loss):
    """Auxiliary masked language modelling on the tokens the ranker reads (Menon et al. 2022, App. C.10)."""

    name: Literal["mlm"]
    weight: Positive = 0.1
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens to predict: of them 80 % are replaced by [MASK], 10 % by any token, 10 % stay."""


_OfScores = (
    Contrastive
    | Ranknet
    | LabelMse
    | Focal
    | PointwiseMse
    | MarginMse
    | SoftmaxCe
    | Kl
    | M3se
    | RankdistilB
    | RanknetMarginWeighted
    | RanknetOrder
    | RanknetRankWeighted
    | MseRanknet
    | Listnet
    | Listmle
    | ApproxNdcg
    | LambdaRank
    | AdrMse
)
LossSpec = Annotated[_OfScores, Field(discriminator="name")]
"""A loss on scores, labels and teacher scores."""
ExtraLossSpec = Annotated[_OfScores | Mlm, Field(discriminator="name")]
"""A loss that can stand beside one on scores."""

LABEL_LOSSES = frozenset({"contrastive", "ranknet", "label_mse", "focal", "listnet", "approx_ndcg", "lambda_rank"})
WITHOUT_TEACHER = LABEL_LOSSES | {"mlm"}
"""Losses that do not read the teacher; a recipe with no other needs none."""
MLM_RANKERS = ("cross_encoder", "dual_encoder", "colbert", "prettr")
"""Rankers that can be trained with `mlm`: they read tokens of a BERT-like encoder, some of them hidden."""
