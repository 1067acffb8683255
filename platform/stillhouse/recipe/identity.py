"""What of a recipe names its results: keys that came later count only where they are used."""

from __future__ import annotations

from typing import Any

LATER: dict[str, dict[str, Any]] = {
    "search": {"confirm_seeds": 0},
    "collection": {"seed": None, "keep_unlabelled": False},
    "teacher": {"seed": None},
    "stage": {"token_dropout": 0.0, "early_stopping": None, "query_prefix": None},
    "optimizer": {"kernel_learning_rate": None, "plateau_factor": 0.5, "plateau_patience": 1},
    "groups": {
        "triples": None,
        "unscored": None,
        "false_negative_margin": None,
        "false_negative_margin_kind": "absolute",
    },
}
"""Node of the tree -> keys added after results were first kept, with their defaults.

`stage` and `teacher`: each of `stages` and `teachers`.
"""


def settled(tree: Any) -> Any:
    """Plain data of a recipe without the later keys that stand at their default, which change nothing.

    Names made from it stay what they were when a release adds keys, so that kept models and trials are found.
    """
    if isinstance(tree, list):
        return [settled(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {name: settled(_without_of_each(name, value)) for name, value in tree.items()}


def settled_stages(stages: Any) -> Any:
    """The same for the value of `stages`."""
    return settled(_without_of_each("stages", stages))


def _without_of_each(name: str, value: Any) -> Any:
    one = {"stages": "stage", "teachers": "teacher"}.get(name)
    if one is None or not isinstance(value, dict):
        return _without(name, value)
    return {key: _without(one, inner) for key, inner in value.items()}


def _without(node: str, value: Any) -> Any:
    later = LATER.get(node, {})
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if name not in later or inner != later[name]}
