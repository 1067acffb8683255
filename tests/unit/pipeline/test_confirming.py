"""The winner against the recipe's own values: real trainings of a tiny student, tested over queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from stillhouse.pipeline import confirming
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import make_job, train_model
from stillhouse.pipeline.run import DISTILLED, prepare, teach, train_student
from stillhouse.pipeline.runs import measure, model_run
from stillhouse.recipe import Recipe, make_recipe, override
from stillhouse.recipe.identity import settled
from stillhouse.study_report.confirmation import BEST, DEFAULT
from tests.unit.pipeline.test_baselines import tree

RATE = "stages.train.optimizer.learning_rate"


class Names:
    """What would be recorded."""

    def __init__(self) -> None:
        self.trained: list[str] = []

        self.seeds: list[int] = []

    def training(self, name: str, model: object, recipe: Recipe, scores: object) -> None:
        self.trained.append(name)
        self.seeds.append(recipe.seed)


SPACE = f"space: {{{RATE}: {{float: [1.0e-5, 1.0e-1], log: true}}}}"


@pytest.fixture(scope="module")
def recipe(collection_folder, backbone, tmp_path_factory):
    toy = tree(collection_folder, backbone)
    folder = tmp_path_factory.mktemp("confirming")
    (folder / "space.yaml").write_text(SPACE)
    toy |= {"teachers": {"a": toy["teachers"]["a"]}, "teacher_selection": "mean", "baselines": {}, "seed": 3}
    toy |= {"search": {"space": str(folder / "space.yaml"), "confirm_seeds": 2}}
    return make_recipe(toy | {"store": {"path": str(folder / "scores"), "actors": 0}})


def test_both_are_trained_with_the_same_seeds_and_tested_over_queries(recipe, tmp_path) -> None:
    winner = override(recipe, {RATE: 5.0e-2})
    with Context(recipe, Console(quiet=True), root=tmp_path) as context:
        prepare(context)
        _, scores = teach(context, recipe)
        names = Names()
        found = confirming.confirm(context, names, winner, scores)
        assert found is not None
        assert found.seeds == [3, 4]
        assert names.trained == [f"{side} values, seed {seed}" for side in ("best", "default") for seed in (3, 4)]
        assert names.seeds == [3, 4, 3, 4]
        trained = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "models").glob("*")}

        # Another way to the same students, without a training: the winner of a run, and the job with its own seed.
        values = {}
        for side, one in ((BEST, winner), (DEFAULT, recipe)):
            scale = recipe.retrain.model_dump(mode="json")
            jobs = [replace(make_job(context, one.student, one.stages, scores, scale), seed=seed) for seed in (3, 4)]
            models = [train_model(context, "again", job) for job in jobs]
            values[side] = [measure(context, model_run(context, "x", model, "test"), "test") for model in models]
        assert train_student(context, DISTILLED, winner, scores).path.name in trained
        again = confirming.confirm(context, Names(), winner, scores)
        assert again == found
        assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "models").glob("*")} == trained

        nothing = confirming.confirm(context, Names(), recipe, scores)
    per_query = {
        side: np.mean([list(one["nDCG@10"].values()) for one in members], axis=0) for side, members in values.items()
    }
    difference = per_query[BEST] - per_query[DEFAULT]
    assert difference.any()
    assert found.comparison.difference == pytest.approx(difference.mean())
    assert found.comparison.p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert found.test[BEST]["nDCG@10"] == pytest.approx([np.mean(list(m["nDCG@10"].values())) for m in values[BEST]])
    assert len(found.dev[DEFAULT]) == 2
    assert not found.same
    assert nothing is not None
    assert nothing.same
    assert (nothing.comparison.difference, nothing.comparison.p) == (0.0, 1.0)


def test_none_asked_for_is_none_trained(recipe, tmp_path) -> None:
    off = override(recipe, {"search.confirm_seeds": 0})
    with Context(off, Console(quiet=True), root=tmp_path) as context:
        assert confirming.confirm(context, Names(), off, None) is None
    assert not (tmp_path / "models").exists()
    # Runs recorded before the key was there keep their names.
    assert "confirm_seeds" not in settled(off.model_dump(mode="json"))["search"]
    assert settled(recipe.model_dump(mode="json"))["search"]["confirm_seeds"] == 2
