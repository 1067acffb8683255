"""A recipe whose teachers are a preset on weights here and the same weights behind an endpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stillhouse.errors import StoreError
from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.dry import dry_run
from stillhouse.pipeline.run import prepare, teach
from stillhouse.recipe import make_recipe, override
from stillhouse.training.teacher import TeacherScores
from tests.contracts.completion_server import serving
from tests.contracts.tiny_llms import write_llm


def test_an_endpoint_teaches_as_the_same_ranker_here(collection_folder: Path, backbone: Path, tmp_path: Path) -> None:
    folder = write_llm(tmp_path / "qwen3", "qwen3")
    with serving(folder) as server:
        recipe = make_recipe(
            {
                "name": "toy",
                "output": {"path": "out"},
                "collection": dict.fromkeys(("train", "dev", "test"), str(collection_folder))
                | {"max_train_queries": 3, "max_dev_queries": 2},
                "candidates": {"depth": 3},
                "teachers": {
                    "here": {"preset": "qwen3-reranker-0.6b", "backbone": str(folder)},
                    "there": {
                        "endpoint": server.url,
                        "model": "tiny",
                        "template": "qwen3-reranker-0.6b",
                        "top_logprobs": 1000,
                    },
                },
                "teacher_selection": ["there"],
                "store": {"path": str(tmp_path / "scores"), "actors": 0, "dtype": "float32"},
                "student": {"ranker": "dual_encoder", "backbone": str(backbone)},
                "stages": {"train": {"loss": {"name": "margin_mse"}, "groups": {"num_negatives": 2, "depth": 3}}},
                "scale": {"dtype": "float32"},
                "tracking": {"uri": "none"},
            }
        )
        check(recipe)
        assert ("teachers.there", f"logit scores of tiny at {server.url}") in dry_run(
            override(recipe, {"teachers.here.backbone": "minilm"})
        )
        found = []
        with Context(recipe, Console(quiet=True), root=tmp_path) as context:
            prepare(context)
            for selection in (["there"], ["here"], ["here", "there"]):
                _, file = teach(context, override(recipe, {"teacher_selection": selection}))
                assert file is not None
                read = TeacherScores.read(file.path)
                found.append(np.concatenate([read.of(row, np.arange(60)) for row in range(3)]))
            asked = len(server.requests)
            with pytest.raises(StoreError, match="best_on_dev needs rankers: files and endpoints rank no dev"):
                teach(context, override(recipe, {"teacher_selection": "best_on_dev"}))
        there, here, mean = found
        assert np.isfinite(here).sum() == asked >= 9
        np.testing.assert_allclose(there, here, atol=1e-4)
        np.testing.assert_allclose(mean, (there + here) / 2, atol=1e-5)
