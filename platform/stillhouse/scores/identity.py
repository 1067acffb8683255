"""Who a teacher is: what decides its scores, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

Dtype = Literal["auto", "float32", "bfloat16"]
Device = Literal["cpu", "cuda"]


def identity_of(ranker: Ranker, dtype: Dtype = "auto", device: Device = "cpu") -> dict[str, Any]:
    """The identity of a ranker's score store: weights, tokenizer, architecture with its caps, dtype and backend.

    `device` is where the scoring actors run (`placement.scoring_device`); training-only options do not count.
    """
    from stillhouse.rankers.identity import output_identity  # here: it brings torch with it

    return output_identity(ranker) | {
        "dtype": resolve_dtype(dtype, device),
        "backend": f"torch-{device}",
        "scale": "logit",
    }


def resolve_dtype(dtype: Dtype, device: Device) -> str:
    """`auto` is bfloat16 on a GPU and on a CPU that multiplies it natively, float32 on other CPUs.

    The CPU is the one of this process, which names the store; actors elsewhere get the dtype by its name.
    """
    if dtype != "auto":
        return dtype
    if device == "cuda":
        return "bfloat16"
    from stillhouse.rankers.processor import multiplies_bfloat16  # here: it brings torch with it

    return "bfloat16" if multiplies_bfloat16() else "float32"
