"""A training of seconds whose record a test reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillhouse.recipe import Recipe, make_recipe


def recorded_recipe(collection_folder: Path, backbone: Path, uri: str, **more: Any) -> Recipe:
    """A toy dual encoder, labels alone, two evaluations, recorded at `uri`; `more`: other parts of the recipe."""
    stage = {"loss": {"name": "contrastive"}, "queries_per_step": 6, "evaluations": 2}
    sizes = {"backbone": str(backbone), "query_max_length": 16, "doc_max_length": 32}
    return make_recipe(
        {
            "name": "toy",
            "output": {"path": "out"},
            "collection": dict.fromkeys(("train", "dev", "test"), str(collection_folder)) | {"max_train_queries": 12},
            "candidates": {"depth": 6},
            "student": {"ranker": "dual_encoder", **sizes},
            "stages": {"label": stage},
            "scale": {"dtype": "float32"},
            "tracking": {"uri": uri, "experiment": "toy"},
            **more,
        }
    )
