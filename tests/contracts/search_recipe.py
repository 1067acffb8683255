"""The least recipe that a search can change; nothing it names exists."""

from __future__ import annotations

from typing import Any

from stillhouse.recipe import Recipe, make_recipe


def search_recipe(loss: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    """A dual encoder with one stage `distill`: the loss, KL where none is given, and its other keys."""
    return make_recipe(
        {
            "name": "toy",
            "output": {"path": "unused"},
            "collection": {"train": "none", "dev": "none", "test": "none"},
            "teachers": {"file": {"scores": "none"}},
            "student": {"ranker": "dual_encoder", "backbone": "none"},
            "stages": {"distill": {"loss": loss or {"name": "kl"}, **stage}},
        }
    )
