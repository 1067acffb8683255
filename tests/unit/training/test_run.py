"""Whole trainings in this process, on the toy collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stillhouse.collection import materialise
from stillhouse.errors import BackboneError, TrainingError
from stillhouse.recipe.checks import LOGGED
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.training.run import run_job
from tests.contracts.training_jobs import toy_job

KL = {"loss": {"name": "kl", "temperature": 2.0}, "groups": {"num_negatives": 4}, "optimizer": {"learning_rate": 1e-3}}
KL |= {"queries_per_step": 8, "queries_per_forward": 4, "evaluations": 1}
MLM = {"mlm": {"name": "mlm", "weight": 0.1}}


@pytest.fixture(scope="module")
def make(toy, workspace, backbone, tmp_path_factory):
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.parquet"

    def job(stages: dict[str, dict[str, Any]], **changes: Any):
        return toy_job(toy, workspace, backbone, stages, teacher=teacher, **changes)

    return job


def train(job, folder: Path):
    """Reports, result, weights and curve."""
    reports: list[dict[str, float]] = []
    result = run_job(
        job, folder / "ckpt", lambda metrics, step: reports.append({"step": step, **metrics}), folder / "out"
    )
    curve = [json.loads(line) for line in (folder / "out" / "curve.jsonl").read_text().splitlines()]
    return reports, result, load_file(folder / "out" / "model.safetensors"), curve


def test_the_size_of_a_forward_changes_memory_and_not_the_result(make, tmp_path):
    stage = KL | {"extra_losses": MLM | {"label": {"name": "contrastive"}}, "token_dropout": 0.2}
    found = {}
    for size in (1, 3, 8, "auto"):
        job = make({"a": stage | {"queries_per_forward": size}})
        found[size] = train(job, tmp_path / str(size))
    _, _, expected, curve = found[8]
    assert [point["queries_per_forward"] for point in found["auto"][3]] == [8.0] * 3
    assert all(torch.equal(found["auto"][2][name], value) for name, value in expected.items())
    for size in (1, 3):
        for ours, theirs in zip(found[size][3], curve, strict=True):
            for name in ("loss", "mlm", "label", "grad_norm"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (size, name)
        moved = torch.cat([(found[size][2][name] - value).flatten().abs() for name, value in expected.items()])
        # Adam divides by the root of the squared gradient: where that is near 0, rounding moves a weight by part of a
        # step, which is at most 1e-3 x 3.
        assert float(moved.max()) < 2e-4
        assert float(moved.mean()) < 1e-6


def test_every_diagnostic_is_logged_and_each_loss_under_its_name(make, tmp_path):
    reports, _, _, curve = train(make({"a": KL | {"extra_losses": MLM}}), tmp_path)
    names = "loss mlm ce kl teacher_pairwise_accuracy positive_score negative_score score_range normalised_margin"
    names += " saturated_teacher score_variance grad_norm learning_rate queries_per_forward"
    assert {f"train/{name}" for name in names.split()} <= reports[-1].keys()
    # No extra loss may be called as anything else that is logged.
    logged = {name.removeprefix("train/") for name in reports[-1] if name.startswith("train/")} | curve[0].keys()
    assert logged - {"mlm"} == LOGGED - {"false_negatives_removed"}
    assert all(np.isfinite(value) for value in reports[-1].values())
    kept = [json.loads(line) for line in (tmp_path / "out" / "evaluations.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in report.items() if key != "time"} for report in kept] == reports
    # Even odds over 37 tokens are ln 37 = 3.61: where a fresh head starts.
    assert curve[0]["mlm"] == pytest.approx(3.61, abs=0.3)
    assert len(curve) == 3


def test_masked_language_modelling_learns(make, tmp_path):
    stage = KL | {"extra_losses": {"mlm": {"name": "mlm", "weight": 5.0, "mask_probability": 0.5}}, "epochs": 12}
    stage["optimizer"] = {"learning_rate": 5e-3, "schedule": "constant"}
    job = make({"a": stage}, ranker={"ranker": "cross_encoder"})
    curve = train(job, tmp_path)[3]
    # The share of each word in the texts is uneven; that alone is worth some tenths.
    assert np.mean([point["mlm"] for point in curve[-3:]]) < curve[0]["mlm"] - 0.1


def test_a_ranker_without_masks_refuses_the_loss(make, tmp_path):
    with pytest.raises(BackboneError, match="loss mlm: tk"):
        train(make({"a": KL | {"extra_losses": MLM}}, ranker={"ranker": "tk"}), tmp_path)


def test_early_stopping_ends_with_the_best_weights(make, tmp_path):
    # A rate this high ruins the ranking after a few steps.
    stage = KL | {"epochs": 10, "evaluations": 10, "early_stopping": 2, "optimizer": {"learning_rate": 0.5}}
    reports, result, _, curve = train(make({"a": stage}), tmp_path / "a")
    values = [report["nDCG@10"] for report in reports]
    best = int(np.argmax(values))
    assert len(values) == best + 3 < 10
    assert result["steps"] == len(curve) == reports[-1]["step"] == 3 * len(values)
    assert result["best_step"] == 3 * (best + 1)
    # The same training cut where it was best.
    stopped = stage | {"max_steps": 30, "early_stopping": None, "evaluations": 10}
    job = make({"a": stopped | {"restore_best": False}})
    values_again: list[float] = []

    def stop(metrics: dict[str, float], step: int) -> None:
        values_again.append(metrics["nDCG@10"])
        if step == result["best_step"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, tmp_path / "b", stop)
    assert values_again == values[: best + 1]


def test_a_plateau_lowers_the_rate_of_the_steps_after_it(make, tmp_path):
    stage = KL | {"epochs": 10, "evaluations": 10}
    stage["optimizer"] = {"learning_rate": 0.5, "schedule": "plateau", "plateau_factor": 0.1, "warmup_fraction": 0.0}
    reports, _, _, curve = train(make({"a": stage}), tmp_path)
    expected, factor, best = [], 1.0, -1.0
    for report in reports:
        expected += [0.5 * factor] * 3
        if report["nDCG@10"] <= best:
            factor *= 0.1
        best = max(best, report["nDCG@10"])
    assert [point["learning_rate"] for point in curve] == pytest.approx(expected)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("order", [["c"], ["d"], ["c", "d"], ["d", "c"]])
def test_stages_start_from_the_one_before_with_their_own_settings(make, tmp_path, order):
    stages = {
        "c": KL | {"loss": {"name": "contrastive"}, "optimizer": {"learning_rate": 2e-3, "schedule": "constant"}},
        "d": KL | {"groups": {"num_negatives": 6, "strategy": "top"}, "queries_per_step": 12, "restore_best": False},
    }
    chosen = {name: stages[name] for name in order}
    reports, result, weights, curve = train(make(chosen), tmp_path / "whole")
    steps = {"c": 3, "d": 2}
    assert result["steps"] == len(curve) == sum(steps[name] for name in order)
    assert [report["step"] for report in reports] == list(np.cumsum([steps[name] for name in order]))
    if len(order) == 2:
        first = {order[0]: stages[order[0]]}
        folder = tmp_path / "first"
        _, _, alone, before = train(make(first), folder)
        assert [(point["loss"], point["learning_rate"]) for point in curve[: len(before)]] == [
            (point["loss"], point["learning_rate"]) for point in before
        ]
        # The second stage alone, on the weights the first one ended with: a checkpoint of it is what it starts from.
        continued = train(make(chosen), folder)
        assert all(torch.equal(continued[2][name], value) for name, value in weights.items())
        assert continued[3] != before
        assert any(not torch.equal(alone[name], value) for name, value in weights.items())


@pytest.mark.parametrize(("restore", "step"), [(True, "best"), (False, "last")])
def test_the_next_stage_starts_from_the_best_or_the_last_weights(make, tmp_path, restore, step):
    first = KL | {"epochs": 4, "evaluations": 4, "optimizer": {"learning_rate": 0.3}, "restore_best": restore}
    # A step of 1e-12 changes nothing that float32 shows: the second stage ends with what it started from.
    still = KL | {"optimizer": {"learning_rate": 1e-30, "weight_decay": 0.0}, "max_steps": 1}
    reports, *_ = train(make({"a": first, "b": still}), tmp_path)
    values = [report["nDCG@10"] for report in reports]
    assert max(values[:4]) > values[3], "the first stage has to get worse for this to say anything"
    assert values[4] == pytest.approx(max(values[:4]) if step == "best" else values[3])


def test_distillation_needs_no_labels(collection_folder, backbone, tmp_path):
    """Queries without a positive: every group is candidates only, and labels play no part."""
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for file in collection_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "qrels.train.tsv").write_text("")
    spec = CollectionSpec(train=str(folder), dev=str(folder), test=str(folder), keep_unlabelled=True)
    toy = materialise(spec, 0, tmp_path / "work")
    assert len(toy.splits["train"].queries) == 24
    assert not toy.splits["train"].qrels
    job = toy_job(toy, tmp_path / "work", backbone, {"d": KL}, teacher=tmp_path / "t.parquet")
    reports, *_ = train(job, tmp_path / "run")
    assert np.isfinite(reports[-1]["train/loss"])
    assert reports[-1]["train/kl"] > 0


def test_a_stage_trains_on_queries_of_its_own(make, tmp_path):
    # Of q0 to q23 eleven start with q1: two steps of 8; all 24 are three.
    job = make({"c": KL | {"query_prefix": "q1"}, "d": KL})
    reports, *_ = train(job, tmp_path)
    assert [report["step"] for report in reports] == [2, 5]
    assert reports[0]["train/queries_per_second"] * reports[0]["train/step_seconds"] * 2 == pytest.approx(11)


def test_a_stage_whose_queries_have_no_group_is_an_error(make, tmp_path):
    # The one triple is of q0; no query that the stage trains on has any.
    file = tmp_path / "triples.tsv"
    file.write_text("q0\td0\td9\n")
    groups = {"strategy": "triples", "triples": str(file)}
    stage = KL | {"loss": {"name": "contrastive"}, "groups": groups, "query_prefix": "q1"}
    with pytest.raises(TrainingError, match="stage a: no query has a document to train on"):
        train(make({"a": stage}), tmp_path)


def test_a_gradient_that_is_not_finite_ends_the_training(make, tmp_path):
    # A loss of about 1e37 is finite in float32 (up to 3.4e38), a gradient some hundred times as large is not.
    stage = KL | {"loss": {"name": "kl", "weight": 1e37}}
    with pytest.raises(TrainingError, match=r"stage a, step 1: the norm of the gradient is (inf|nan), the"):
        train(make({"a": stage}), tmp_path)


def test_a_prefix_that_no_query_has_is_an_error(make, tmp_path):
    with pytest.raises(TrainingError, match=r"query_prefix 'rlhn': none of the 24 train queries .* the first is 'q0'"):
        train(make({"c": KL | {"query_prefix": "rlhn"}}), tmp_path)
