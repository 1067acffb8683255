"""What of a recipe names its results: keys that came later count only where they are used."""

from __future__ import annotations

from typing import Any

LATER: dict[str, dict[str, Any]] = {
    "stage": {"token_dropout": 0.0, "early_stopping": None},
    "optimizer": {"kernel_learning_rate": None, "plateau_factor": 0.5, "plateau_patience": 1},
    "groups": {
        "triples": None,
        "unscored": None,
        "false_negative_margin": None,
        "false_negative_margin_kind": "absolute",
    },
}
"""Node of the tree (`stage`: each of `stages`) -> keys added after results were first kept, with their defaults."""


def settled(tree: Any) -> Any:
    """Plain data of a recipe without the later keys that stand at their default, which change nothing.

    Names made from it stay what they were when a release adds keys, so that kept models and trials are found.
    """
    if isinstance(tree, list):
        return [settled(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name: settled(settled_stages(value) if name == "stages" else _without(name, value))
        for name, value in tree.items()
    }


def settled_stages(stages: Any) -> Any:
    """The same for the value of `stages`."""
    if not isinstance(stages, dict):
        return stages
    return {name: settled(_without("stage", stage)) for name, stage in stages.items()}


def _without(node: str, value: Any) -> Any:
    later = LATER.get(node, {})
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if name not in later or inner != later[name]}
