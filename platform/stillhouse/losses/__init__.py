"""Losses by name. Each is a pure function of student scores, teacher scores, labels and mask."""

from __future__ import annotations

from typing import Any

from stillhouse.losses import (
    adr_mse,
    approx_ndcg,
    contrastive,
    focal,
    kl,
    label_mse,
    lambda_rank,
    listmle,
    listnet,
    m3se,
    margin_mse,
    mlm,
    mse_ranknet,
    pointwise_mse,
    rankdistil_b,
    ranknet,
    ranknet_margin_weighted,
    ranknet_order,
    ranknet_rank_weighted,
    softmax_ce,
)
from stillhouse.losses.base import AuxiliaryLoss, Loss, PerQuery


class _Losses(dict[str, Loss]):
    """The losses over scores; by its name an auxiliary one is found too, which reads no scores and is no item."""

    def __missing__(self, name: str) -> Any:
        return AUXILIARY[name]


AUXILIARY: dict[str, AuxiliaryLoss] = {"mlm": mlm.LOSS}

LOSSES: dict[str, Loss] = _Losses(
    {
        "contrastive": contrastive.LOSS,
        "ranknet": ranknet.LOSS,
        "label_mse": label_mse.LOSS,
        "focal": focal.LOSS,
        "pointwise_mse": pointwise_mse.LOSS,
        "margin_mse": margin_mse.LOSS,
        "softmax_ce": softmax_ce.LOSS,
        "kl": kl.LOSS,
        "m3se": m3se.LOSS,
        "rankdistil_b": rankdistil_b.LOSS,
        "ranknet_margin_weighted": ranknet_margin_weighted.LOSS,
        "ranknet_order": ranknet_order.LOSS,
        "ranknet_rank_weighted": ranknet_rank_weighted.LOSS,
        "mse_ranknet": mse_ranknet.LOSS,
        "listnet": listnet.LOSS,
        "listmle": listmle.LOSS,
        "approx_ndcg": approx_ndcg.LOSS,
        "lambda_rank": lambda_rank.LOSS,
        "adr_mse": adr_mse.LOSS,
    }
)

__all__ = ["AUXILIARY", "LOSSES", "AuxiliaryLoss", "Loss", "PerQuery"]
