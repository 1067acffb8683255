"""The key of a training holds what decides its result, and no place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillhouse.recipe.tree import OptimizerSpec, StageSpec
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
