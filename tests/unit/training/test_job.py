"""The key of a training holds what decides its result, and no place."""

from __future__ import annotations

from dataclasses import replace

import pytest

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


def test_a_curve_is_cut_at_the_last_step_kept_and_at_a_torn_line(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    trim_curve(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
