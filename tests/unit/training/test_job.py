"""The key of a training holds what decides its result, and no place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillhouse.recipe import load_recipe, override
from stillhouse.recipe.identity import LATER
from stillhouse.recipe.tree import CollectionSpec, DualEncoderTeacher, GroupsSpec, OptimizerSpec, SearchSpec, StageSpec
from stillhouse.search.record import trial_key
from stillhouse.training.curve import trim_curve
from stillhouse.training.job import TrainingJob

JOB = TrainingJob(
    ranker={"ranker": "dual_encoder", "backbone": "a"},
    stages={"c": {"epochs": 1}, "d": {"epochs": 2}},
    seed=0,
    evaluation={},
    scale={},
    candidates={},
    collection="/a/collection",
    collection_digest="digest",
    workspace="/a",
    teacher_scores="/a/teacher",
    teacher_key="key",
    backbone_digest="weights",
    candidates_key="bm25",
)


def test_places_do_not_count():
    moved = replace(JOB, collection="/b/collection", workspace="/b", teacher_scores="/b/teacher")
    assert moved.key == JOB.key


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"teacher_key": "other"},
        {"collection_digest": "other"},
        {"backbone_digest": "other"},
        {"candidates_key": "other"},
        {"stages": {"d": {"epochs": 2}, "c": {"epochs": 1}}},
    ],
)
def test_what_decides_the_result_counts(change):
    assert replace(JOB, **change).key != JOB.key


def test_a_later_key_that_changes_nothing_keeps_the_name_of_a_finished_training():
    # Made by the version before these keys were there.
    before = {"epochs": 1, "optimizer": {"learning_rate": 1e-3}}
    silent = {"token_dropout": 0.0, "early_stopping": None, "query_prefix": None}
    optimizer = {"kernel_learning_rate": None, "plateau_factor": 0.5, "plateau_patience": 1}
    now = before | silent | {"optimizer": before["optimizer"] | optimizer}
    assert replace(JOB, stages={"c": now}).key == replace(JOB, stages={"c": before}).key
    for key, value in (("token_dropout", 0.1), ("early_stopping", 2), ("query_prefix", "a")):
        assert replace(JOB, stages={"c": now | {key: value}}).key != replace(JOB, stages={"c": before}).key
    assert set(silent) <= set(StageSpec.model_fields)
    assert set(optimizer) <= set(OptimizerSpec.model_fields)


def test_a_curve_is_cut_at_the_last_step_kept_and_at_a_torn_line(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    trim_curve(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_keys_that_came_later_count_only_where_they_are_used():
    recipe = load_recipe("demo")
    stages = {name: stage.model_dump(mode="json") for name, stage in recipe.stages.items()}
    # What TrainingJob.key and search.record.trial_key gave before any of the keys in recipe.identity.LATER was there.
    job = TrainingJob(
        ranker=recipe.student.model_dump(mode="json"),
        stages=stages,
        seed=0,
        evaluation=recipe.evaluation.model_dump(mode="json"),
        scale=recipe.scale.model_dump(mode="json"),
        candidates=recipe.candidates.model_dump(mode="json"),
        collection="/c",
        collection_digest="d",
        workspace="/w",
    )
    assert job.key == "c1baa4e7b0027165"
    assert trial_key(recipe, {}, {}) == "58d90151b77e2faf"
    changed = override(recipe, {"stages.distill.groups.false_negative_margin": 0.5})
    assert replace(job, stages={"distill": changed.stages["distill"].model_dump(mode="json")}).key != job.key
    assert trial_key(changed, {}, {}) != "58d90151b77e2faf"


def test_triples_count_by_content_and_not_by_path():
    def key(path, digest):
        stage = {"groups": {"strategy": "triples", "triples": path}}
        return replace(JOB, stages={"c": stage}, triples={path: digest}).key

    assert key("/a/triples.tsv", "x") == key("/b/triples.tsv", "x") != key("/a/triples.tsv", "y")


def test_later_keys_stand_at_the_defaults_of_the_recipe():
    specs = {"stage": StageSpec, "optimizer": OptimizerSpec, "groups": GroupsSpec}
    specs |= {"collection": CollectionSpec, "teacher": DualEncoderTeacher, "search": SearchSpec}
    for node, later in LATER.items():
        assert {name: specs[node].model_fields[name].default for name in later} == later
