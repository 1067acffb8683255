"""One recipe, several students: each baseline has the teachers and the stages that it names."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from stillhouse.errors import RecipeError
from stillhouse.losses import LOSSES
from stillhouse.pipeline.check import check
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.run import prepare, teach, train_students
from stillhouse.pipeline.teachers import scoring_depth
from stillhouse.recipe import load_recipe, make_recipe, override
from stillhouse.recipe.losses import LABEL_LOSSES
from stillhouse.training.teacher import TeacherScores

LABELS = {"loss": {"name": "contrastive"}, "queries_per_step": 24, "evaluations": 1}


def tree(folder, backbone):
    sizes = {"backbone": str(backbone), "query_max_length": 16, "doc_max_length": 32}
    cross = {"ranker": "cross_encoder", **sizes, "stages": {"label": LABELS}}
    return {
        "name": "toy",
        "output": {"path": "out"},
        "collection": dict.fromkeys(("train", "dev", "test"), str(folder)) | {"max_train_queries": 12, "seed": 5},
        "candidates": {"depth": 6},
        "teachers": {"a": {**cross, "seed": 1}, "b": {**cross, "seed": 2}, "free": cross},
        "teacher_selection": ["a", "b"],
        "store": {"path": str(folder / "scores"), "actors": 0},
        "student": {"ranker": "dual_encoder", **sizes},
        "stages": {"train": {**LABELS, "loss": {"name": "kl"}, "groups": {"num_negatives": 2, "depth": 4}}},
        "baselines": {
            "single": {"teacher_selection": ["a"]},
            "two": {"stages": {"first": LABELS, "second": {**LABELS, "groups": {"depth": 6}}}},
        },
        "retrain": {"num_workers": 1, "sharding": "none"},
        "scale": {"dtype": "float32"},
        "tracking": {"uri": "none"},
    }


def test_teachers_and_stages_of_baselines(collection_folder, backbone, tmp_path):
    recipe = make_recipe(tree(collection_folder, backbone))
    recipe = override(recipe, {"store.path": str(tmp_path / "scores")})
    check(recipe)
    assert scoring_depth(recipe) == 6  # the second stage of `two`
    with Context(recipe, Console(quiet=True), root=tmp_path) as context:
        prepare(context)
        both, scores = teach(context, recipe)
        _, alone = teach(context, override(recipe, {"teacher_selection": ["a"]}))
        _, other = teach(context, override(recipe, {"teacher_selection": ["b"]}))
        students = train_students(context, recipe, scores)
        digest = context.collection.digest
    assert list(both.members) == ["a", "b"]
    read = [TeacherScores.read(file.path) for file in (scores, alone, other)]
    mean, a, b = (np.concatenate([each.of(row, np.arange(60)) for row in range(12)]) for each in read)
    assert np.isfinite(mean).sum() >= 12 * 6
    np.testing.assert_allclose(mean, (a + b) / 2, rtol=1e-6)
    assert not np.allclose(a, b, equal_nan=True)
    jobs = {name: model.facts["job"] for name, model in students.items()}
    assert list(jobs["two student"]["stages"]) == ["first", "second"]
    assert jobs["single student"] == jobs["distilled student"]  # they differ in the teacher alone
    assert len({model.key for model in students.values()}) == 3

    # Another seed of the recipe: other students; the same queries and pinned teachers.
    with Context(override(recipe, {"seed": 9}), Console(quiet=True), root=tmp_path) as context:
        again, _ = teach(context, context.recipe)
        assert context.collection.digest == digest
        assert {n: m.key for n, m in again.members.items()} == {n: m.key for n, m in both.members.items()}


def test_a_recipe_that_reads_labels_only_needs_no_teacher(collection_folder, backbone, tmp_path):
    plain = tree(collection_folder, backbone) | {"teachers": {}, "teacher_selection": "mean"}
    with pytest.raises(RecipeError, match="at least one teacher"):
        make_recipe(plain)
    plain["baselines"] = {}
    recipe = make_recipe(plain | {"stages": {"train": LABELS}})
    with Context(recipe, Console(quiet=True), root=tmp_path) as context:
        prepare(context)
        teacher, scores = teach(context, recipe)
        assert (teacher.members, scores) == ({}, None)
        assert len(train_students(context, recipe, scores)) == 1


def test_which_losses_read_labels_only():
    assert {name for name, loss in LOSSES.items() if not loss.needs_teacher} == LABEL_LOSSES


@pytest.mark.parametrize(
    ("named", "said"), [("[crss]", "no teacher crss; the recipe has cross"), ("[]", "names no teacher")]
)
def test_a_teacher_that_is_not_there_is_one_line(named, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe("smoke", [f"teacher_selection={named}"])
