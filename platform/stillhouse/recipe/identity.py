"""What of a recipe names its results: keys that came later count only where they are used."""

from __future__ import annotations

from typing import Any

LATER: dict[str, dict[str, Any]] = {
    "groups": {
        "triples": None,
        "unscored": None,
        "false_negative_margin": None,
        "false_negative_margin_kind": "absolute",
    }
}
"""Node of the tree -> keys added after results were first kept, with the defaults that change nothing."""


def settled(tree: Any) -> Any:
    """Plain data of a recipe without the later keys that stand at their default.

    Names made from it stay what they were when a release adds keys, so that kept models and trials are found.
    """
    if isinstance(tree, list):
        return [settled(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {name: _without(settled(value), LATER.get(name, {})) for name, value in tree.items()}


def _without(value: Any, later: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if name not in later or inner != later[name]}
