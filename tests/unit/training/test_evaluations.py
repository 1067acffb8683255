"""Measures on train queries beside dev, and kept scores: against a re-ranking by the saved ranker."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from stillhouse.candidates import candidates_for
from stillhouse.evaluation.measures import named_qrels, per_query
from stillhouse.evaluation.rerank import rerank
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.diagnostics import curves, stage_spreads, teacher_picture, teacher_run, training_pictures
from stillhouse.pipeline.models import Model, TeacherFile
from stillhouse.pipeline.recording import Recorder
from stillhouse.rankers import load_ranker
from stillhouse.recipe import load_recipe
from stillhouse.recipe.tree import CandidatesSpec, EvaluationSpec
from stillhouse.tracking.mlflow_tracker import open_client
from stillhouse.training.evaluations import read_scores
from stillhouse.training.run import run_job
from tests.contracts.training_jobs import STAGE, toy_job


@pytest.fixture(scope="module")
def trained(toy, workspace, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations")
    job = toy_job(toy, workspace, backbone, {"a": STAGE}, teacher=folder / "teacher.parquet")
    plain_key = job.key
    asked = EvaluationSpec(depth=6, train_queries=7, score_queries=3).model_dump(mode="json")
    reports: list[tuple[int, dict[str, float]]] = []
    job = replace(job, evaluation=asked)
    run_job(job, folder / "ckpt", lambda metrics, step: reports.append((step, dict(metrics))), folder / "out")
    return folder / "out", reports, (plain_key, job.key)


def test_keys_of_trainings_without_them_stay(trained) -> None:
    assert EvaluationSpec(depth=6).model_dump(mode="json").keys() == {"measures", "depth", "dev_depth", "select_by"}
    plain, asked = trained[2]
    assert plain != asked


def test_train_and_dev_measures_are_those_of_a_reranking(trained, toy, workspace: Path) -> None:
    out, reports, _ = trained
    (last_step, last) = reports[-1]
    ranker = load_ranker(out)  # restore_best is off: the weights of the last evaluation
    candidates = {name: candidates_for(CandidatesSpec(depth=12), toy, name, workspace) for name in ("train", "dev")}
    dev = rerank(ranker, toy, "dev", candidates["dev"], 6, workspace)
    values = per_query(dev, named_qrels(toy, "dev"), ["nDCG@10", "RR@10"])
    for name, each in values.items():
        assert last[name] == pytest.approx(sum(each.values()) / len(each), abs=1e-6)
    # Seven of 24 train queries: their mean is a mean of values of single queries.
    train = rerank(ranker, toy, "train", candidates["train"], 6, workspace)
    of_train = per_query(train, named_qrels(toy, "train"), ["RR@10"])["RR@10"]
    lines = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [step for step, _ in reports] == sorted({line["step"] for line in lines})
    assert {name: lines[-1][name] for name in ("nDCG@10", "RR@10", "train/nDCG@10", "train/RR@10")} == {
        name: last[name] for name in ("nDCG@10", "RR@10", "train/nDCG@10", "train/RR@10")
    }
    chosen = _sampled(toy.splits["train"].queries.ids, 7)
    assert last["train/RR@10"] == pytest.approx(sum(of_train[query] for query in chosen) / 7, abs=1e-6)
    assert last_step == lines[-1]["step"]


def _sampled(ids: list[str], count: int) -> list[str]:
    """The first by SHA-256 of seed, -1 and id."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"0\x1f-1\x1f{one}".encode()).digest())[:count]


def test_kept_scores_are_those_of_the_start_and_of_each_evaluation(trained, toy, workspace: Path, backbone) -> None:
    out, reports, _ = trained
    kept = read_scores(out)
    assert list(kept) == [0, *(step for step, _ in reports)]
    chosen = set(_sampled(toy.splits["dev"].queries.ids, 3))
    assert all(set(run) <= chosen for run in kept.values())
    candidates = candidates_for(CandidatesSpec(depth=12), toy, "dev", workspace)
    end = rerank(load_ranker(out), toy, "dev", candidates, 6, workspace)
    for query, scores in kept[reports[-1][0]].items():
        assert scores == pytest.approx(end[query], abs=1e-5)
    start = load_ranker(out).from_backbone(str(backbone), seed=0, query_max_length=8, doc_max_length=16)
    before = rerank(start, toy, "dev", candidates, 6, workspace)
    for query, scores in kept[0].items():
        assert scores == pytest.approx(before[query], abs=1e-5)


@pytest.fixture
def context(toy, workspace: Path, tmp_path: Path, mlflow_template) -> Context:
    uri = mlflow_template(tmp_path)
    recipe = load_recipe("smoke", [f"tracking.uri={uri}", "tracking.experiment=pictures"])
    return Context(recipe, Console(file=io.StringIO()), root=tmp_path / "root", _collection=toy)


def test_the_record_has_curves_and_pictures(trained, context: Context, toy, tmp_path: Path) -> None:
    out, reports, _ = trained
    teacher = TeacherFile(out.parent / "teacher.parquet", "t")
    recorder = Recorder(context)
    recorder.teacher(teacher)
    recorder.training("student", Model("k", out, {"job": {"ranker": {}, "stages": {}}}))
    client = open_client(context.recipe.tracking.uri)
    run = recorder.children["student"]
    for key, name in (("dev/nDCG_at_10", "nDCG@10"), ("train/nDCG_at_10", "train/nDCG@10")):
        points = [(point.step, point.value) for point in client.get_metric_history(run, key)]
        assert points == [(step, pytest.approx(metrics[name])) for step, metrics in reports]
    files = {file.path for file in client.list_artifacts(run, "figures")}
    assert files == {f"figures/{name}.png" for name in ("curves", "scores", "scores-centred", "margins")}
    files = {file.path for file in client.list_artifacts(recorder.parent, "figures")}
    assert files == {"figures/teacher-margins.png", "figures/teacher-scores.png"}
    # Drawn once: a second record takes what is there.
    before = _times(tmp_path / "root" / "pictures")
    recorder.training("student", Model("k", out, {"job": {"ranker": {}, "stages": {}}}))
    assert _times(tmp_path / "root" / "pictures") == before


def _times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def test_what_the_pictures_show(trained, context: Context, toy) -> None:
    out, reports, _ = trained
    points = Model("k", out, {}).evaluations()
    assert curves(points, "nDCG@10") == {
        label: [(step, pytest.approx(metrics[key])) for step, metrics in reports]
        for label, key in (("dev", "nDCG@10"), ("train", "train/nDCG@10"))
    }
    spreads = stage_spreads(read_scores(out), named_qrels(toy, "dev"))
    assert [spread.name for spread in spreads] == ["step 0", *(f"step {step}" for step, _ in reports)]
    assert all(len(spread.positives) + len(spread.negatives) == 3 * 6 for spread in spreads)
    run = teacher_run(context, out.parent / "teacher.parquet")
    queries, docs = len(toy.splits["train"].queries), len(toy.docs)
    # The toy's teacher leaves every seventh pair out, the first among them.
    assert sum(map(len, run.values())) == queries * docs - -(-queries * docs // 7)


def test_a_training_without_evaluations_has_no_pictures(context: Context, tmp_path: Path) -> None:
    assert training_pictures(context, "old", Model("k", tmp_path, {})) is None
    assert teacher_picture(context, None) is None
