"""A step over all its documents: who is whose negative, what the teacher says of it, one big batch's gradients."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from stillhouse.candidates import candidates_for
from stillhouse.collection import materialise
from stillhouse.rankers import RANKERS
from stillhouse.recipe.groups import GroupsSpec
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec, EvaluationSpec, ScaleSpec, StageSpec
from stillhouse.training.batches import make_micro_batch, rank_share
from stillhouse.training.gradient_cache import GradientCache
from stillhouse.training.groups import GroupSampler
from stillhouse.training.in_batch import InBatchStep, columns_of, targets_of
from stillhouse.training.job import TrainingJob, load_data
from stillhouse.training.run import run_job
from stillhouse.training.step import Inputs, StepRunner, local_weights, losses_of
from stillhouse.training.teacher import TeacherScores, write_teacher_scores
from tests.conftest import WORDS
from tests.contracts.training_jobs import toy_job

CAPS = {"query_max_length": 8, "doc_max_length": 16}
QUERIES, DOCS = 6, 20


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Documents 10 to 14 have the texts of 0 to 4; query i has the positives i and i + 1."""
    folder = tmp_path_factory.mktemp("twins")
    texts = [" ".join(WORDS[(3 * i + j) % len(WORDS)] for j in range(4 + i % 5)) for i in range(10)]
    texts += texts[:5] + [f"{WORDS[i]} {WORDS[i + 9]}" for i in range(5)]
    lines = [json.dumps({"doc_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    for split in ("train", "dev", "test"):
        queries = [{"query_id": f"q{i}", "text": " ".join(texts[i].split()[:3])} for i in range(QUERIES)]
        (folder / f"queries.{split}.jsonl").write_text("\n".join(map(json.dumps, queries)))
        qrels = [f"q{i}\t0\td{j}\t1\n" for i in range(QUERIES) for j in (i, i + 1)]
        (folder / f"qrels.{split}.tsv").write_text("".join(qrels))
    root = tmp_path_factory.mktemp("twins-workspace")
    collection = materialise(CollectionSpec(train=str(folder), dev=str(folder), test=str(folder)), 0, root)
    return collection, candidates_for(CandidatesSpec(depth=8), collection, "train", root)


def sampler_of(twins, seed=0, teacher=None, **spec) -> GroupSampler:
    collection, candidates = twins
    return GroupSampler(
        collection.splits["train"], collection.docs, candidates, GroupsSpec(strategy="in_batch", **spec), seed, teacher
    )


@pytest.mark.parametrize("num_negatives", [0, 3])
def test_each_query_sees_each_foreign_text_once_and_no_positive(twins, num_negatives):
    collection, _ = twins
    texts = collection.docs.texts(range(DOCS))
    for seed in range(5):
        sampler = sampler_of(twins, seed, num_negatives=num_negatives)
        groups = [sampler.group(row, 0) for row in range(QUERIES)]
        columns = columns_of(groups, collection.docs.hashes)
        targets = targets_of(columns, groups, range(QUERIES), sampler, None)
        shown = [row for group in groups for row in group.doc_rows_K.tolist()]
        assert columns.rows_N.tolist() == shown
        for number, group in enumerate(groups):
            own = group.doc_rows_K.tolist()
            positive_texts = {texts[number], texts[number + 1]}
            # By hand: all own documents, then every other text of the step that is neither theirs nor a positive's.
            expected = sorted({texts[row] for row in shown} - {texts[row] for row in own} - positive_texts)
            seen = [row for row, used in zip(shown, targets.mask_QN[number], strict=True) if used]
            assert sorted(texts[row] for row in seen) == sorted([*expected, *(texts[row] for row in own)])
            labelled = [row for row, label in zip(shown, targets.label_QN[number], strict=True) if label]
            assert labelled == own[:1]


def test_what_the_teacher_never_scored_stands_at_the_floor_or_at_nothing(twins):
    scores = TeacherScores(np.repeat(np.arange(6), 20), np.tile(np.arange(20), 6), np.arange(120, dtype=np.float32))
    for unscored in ("floor", "label_only"):
        free = sampler_of(twins, teacher=scores, num_negatives=3, unscored=unscored)
        drawn = [free.group(row, 0) for row in range(QUERIES)]
        own = [(group.query_row, row) for group in drawn for row in group.doc_rows_K.tolist()]
        kept = [*own, (0, 15)]
        queries, docs = (np.array(column) for column in zip(*kept, strict=True))
        teacher = TeacherScores(queries, docs, (queries * 20 + docs).astype(np.float32))
        sampler = replace(free, teacher=teacher)
        groups = [sampler.group(row, 0) for row in range(QUERIES)]
        columns = columns_of(groups, sampler.docs.hashes)
        targets = targets_of(columns, groups, range(QUERIES), sampler, None)
        for number, group in enumerate(groups):
            floor = group.teacher_K.min() if unscored == "floor" else np.nan
            expected = [number * 20 + row if (number, row) in set(kept) else floor for row in columns.rows_N.tolist()]
            np.testing.assert_array_equal(targets.teacher_QN[number], np.array(expected, dtype=np.float32))


def test_a_margin_masks_foreign_documents_that_the_teacher_likes(twins):
    # The teacher gives every document its row number: everything above the positive's row goes.
    queries, docs = np.repeat(np.arange(QUERIES), DOCS), np.tile(np.arange(DOCS), QUERIES)
    sampler = sampler_of(
        twins, teacher=TeacherScores(queries, docs, docs.astype(np.float32)), num_negatives=2, false_negative_margin=0.0
    )
    groups = [sampler.group(row, 0) for row in range(QUERIES)]
    columns = columns_of(groups, sampler.docs.hashes)
    free = targets_of(columns, groups, range(QUERIES), replace(sampler, spec=GroupsSpec(strategy="in_batch")), None)
    bounded = targets_of(columns, groups, range(QUERIES), sampler, None)
    expected = free.mask_QN & (columns.rows_N[None] <= np.array([group.doc_rows_K[0] for group in groups])[:, None])
    np.testing.assert_array_equal(bounded.mask_QN, expected)
    assert bounded.removed == free.mask_QN.sum() - expected.sum() > 0


def job_of(toy, workspace, backbone, teacher: Path | None = None, models=(), **changes) -> TrainingJob:
    stage = {
        "loss": {"name": "contrastive"},
        "groups": {"strategy": "in_batch", "num_negatives": 2},
        "optimizer": {"learning_rate": 1e-3},
        "queries_per_step": 5,
        "queries_per_forward": 5,
        "evaluations": 1,
        "restore_best": False,
    } | changes
    ranker = {"ranker": "dual_encoder", "backbone": str(backbone), "learn_score_scale": True, **CAPS}
    return TrainingJob(
        ranker=ranker,
        stages={"only": StageSpec.model_validate(stage).model_dump(mode="json")},
        seed=0,
        evaluation=EvaluationSpec(depth=6).model_dump(mode="json"),
        scale=ScaleSpec(dtype="float32").model_dump(mode="json"),
        candidates=CandidatesSpec(depth=12).model_dump(mode="json"),
        collection=str(toy.path),
        collection_digest=toy.digest,
        workspace=str(workspace),
        teacher_scores=str(teacher) if teacher else None,
        teacher_models=[str(model) for model in models],
    )


@pytest.fixture(scope="module")
def taught(toy, backbone, tmp_path_factory) -> tuple[Path, Path]:
    """Scores of most pairs by a small cross-encoder, and its folder."""
    folder = tmp_path_factory.mktemp("taught")
    ranker = RANKERS["cross_encoder"].from_backbone(str(backbone), seed=4, **CAPS)
    # A fresh head gives nearly equal scores; now they have a standard deviation of about 0.7.
    ranker.head.weight.data *= 5000
    ranker.save_pretrained(folder / "model")
    queries = toy.splits["train"].queries
    texts = toy.docs.texts(range(len(toy.docs)))
    scores_QK = ranker.score(queries.texts(range(len(queries))), [texts] * len(queries)).numpy()
    pairs = [(q, d) for q in range(len(queries)) for d in range(len(toy.docs)) if (q + d) % 4]
    rows = tuple(np.array(column) for column in zip(*pairs, strict=True))
    write_teacher_scores(folder / "teacher.parquet", [(*rows, scores_QK[rows])])
    return folder / "teacher.parquet", folder / "model"


CASES = {
    "contrastive": {"loss": {"name": "contrastive", "temperature": 0.5}},
    "label_only": {
        "loss": {"name": "kl", "temperature": 2.0},
        "groups": {"strategy": "in_batch", "num_negatives": 2, "unscored": "label_only"},
    },
    "score_on_the_fly": {
        "loss": {"name": "kl", "temperature": 2.0},
        "groups": {"strategy": "in_batch", "num_negatives": 2, "unscored": "score_on_the_fly"},
    },
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_step_has_the_loss_and_gradients_of_one_big_batch(name, toy, workspace, backbone, taught):
    job = job_of(toy, workspace, backbone, taught[0], [taught[1]], **CASES[name])
    ranker = RANKERS["dual_encoder"].from_spec(job.ranker_spec, seed=0).train()
    data, stage = load_data(job, ranker), job.stage_specs["only"]
    sampler = data.sampler(stage, 0)
    groups = [sampler.group(row, 0) for row in range(5)]
    micros = [
        Inputs(make_micro_batch(share, 3, ranker, data.train_query_ids, data.doc_ids, torch.device("cpu")))
        for share in rank_share(groups, 2)
    ]
    step = InBatchStep(ranker, groups, micros, sampler, data.live_for(stage), nullcontext, (0,))
    losses = losses_of(stage)
    totals = dict(zip(losses, local_weights(losses, step.inputs), strict=True))
    runner = StepRunner(step, ranker, losses, totals, nullcontext, lambda micro, value: "bad")
    passes = runner.run(step.inputs)
    step.finish()
    found = {key: value.grad.clone() for key, value in ranker.named_parameters() if value.grad is not None}
    ranker.zero_grad()
    expected = big_batch(ranker, name, groups, toy, data.teacher, taught[1])
    expected.backward()
    assert passes.values()["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    for key, parameter in ranker.named_parameters():
        close(found.get(key), parameter.grad)
    assert float(found["scale.log_scale"].abs().max()) > 0


def close(found: torch.Tensor | None, expected: torch.Tensor | None) -> None:
    """Equal but for the rounding of sums in another order, measured by the largest entry."""
    if expected is None:
        assert found is None
        return
    assert float((found - expected).abs().max()) < 1e-4 * max(1e-2, float(expected.abs().max()))


def big_batch(ranker, name, groups, toy, stored, model) -> torch.Tensor:
    """The same loss in plain torch: all texts encoded once, one document list per query."""
    split = toy.splits["train"]
    queries = ranker.encode_queries(ranker.tokenise(split.queries.texts(group.query_row for group in groups)))
    rows = sorted({row for group in groups for row in group.doc_rows_K.tolist()})
    docs = ranker.encode_docs(ranker.tokenise(toy.docs.texts(rows)))
    teacher = RANKERS["cross_encoder"].from_pretrained(model)
    losses = []
    for number, group in enumerate(groups):
        positives = {row for row, grade in split.qrels[group.query_row].items() if grade > 0}
        chosen = [int(group.doc_rows_K[0]), *(row for row in rows if row not in positives)]
        scores = (queries[number] @ docs[[rows.index(row) for row in chosen]].T) * ranker.scale.log_scale.exp()
        if name == "contrastive":
            losses.append(cross_entropy(scores[None] / 0.5, torch.tensor([0])))
            continue
        target = torch.from_numpy(stored.of(group.query_row, np.array(chosen)))
        if name == "score_on_the_fly":
            live = teacher.score([split.queries.text(group.query_row)], [toy.docs.texts(chosen)])[0]
            target = torch.where(target.isnan(), live, target)
        known = ~target.isnan()
        log_student = log_softmax(scores[known] / 2.0, -1)
        losses.append(4.0 * kl_div(log_student, softmax(target[known] / 2.0, -1), reduction="sum"))
    return torch.stack(losses).mean()


def test_gradients_are_those_of_one_graph_with_the_same_dropout(toy, backbone, workspace):
    ranker = RANKERS["dual_encoder"].from_backbone(str(backbone), seed=0, dropout=0.3, output_dropout=0.2, **CAPS)
    ranker.train()
    queries = ranker.tokenise(toy.splits["train"].queries.texts(range(4)))
    docs = [ranker.tokenise(toy.docs.texts(range(3 * i, 3 * i + 2 + i % 2))) for i in range(4)]
    batches = [ranker.collate(queries[i : i + 2], docs[i : i + 2], num_chunks=2, width=3) for i in (0, 2)]
    weights_QN = torch.linspace(-1, 1, 48).view(4, 12)
    cache = GradientCache(ranker, batches, nullcontext, lambda number: 100 + number)
    vectors = cache.encode()
    loss = ((vectors[0] @ vectors[1].T).tanh() * weights_QN).sum()
    loss.backward()
    cache.backward()
    found = {key: value.grad.clone() for key, value in ranker.named_parameters() if value.grad is not None}
    ranker.zero_grad()
    encoded = []
    for number, batch in enumerate(batches):
        torch.manual_seed(100 + number)
        encoded.append(ranker.encode_batch(batch))
    reps_QD, docs_ND = (torch.cat(parts) for parts in zip(*encoded, strict=True))
    expected = ((reps_QD @ docs_ND.T).tanh() * weights_QN).sum()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for key, parameter in ranker.named_parameters():
        close(found.get(key), parameter.grad)
    # Other dropout gives another loss: the seeds above mattered.
    other = GradientCache(ranker, batches, nullcontext, lambda number: 200 + number)
    assert not torch.allclose(other.encode()[1], vectors[1])


TOKENS_TOO = {"loss": {"name": "contrastive"}, "extra_losses": {"tokens": {"name": "mlm"}}, "token_dropout": 0.1}


@pytest.mark.parametrize("changes", [TOKENS_TOO, CASES["score_on_the_fly"]], ids=["tokens", "score_on_the_fly"])
def test_accumulation_changes_nothing(changes, toy, workspace, backbone, taught, tmp_path):
    curves, weights = [], []
    for size in (5, 2):
        job = job_of(toy, workspace, backbone, taught[0], [taught[1]], **changes, queries_per_forward=size)
        run_job(job, tmp_path / f"checkpoints-{size}", lambda metrics, step: None, tmp_path / f"out-{size}")
        points = [json.loads(line) for line in (tmp_path / f"out-{size}" / "curve.jsonl").read_text().splitlines()]
        curves.append([(point["loss"], point["grad_norm"]) for point in points])
        weights.append(load_file(tmp_path / f"out-{size}" / "model.safetensors"))
    # 24 queries in steps of 5; the last step has 4.
    assert len(curves[0]) == 5
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    start = RANKERS["dual_encoder"].from_spec(job.ranker_spec, seed=0).state_dict()
    moved = gap = 0.0
    for key, value in weights[0].items():
        moved += float((value - start[f"backbone.{key}"]).abs().sum()) if f"backbone.{key}" in start else 0.0
        gap += float((value - weights[1][key]).abs().sum())
    assert gap < 1e-3 * moved


def test_the_largest_size_is_found_in_a_collection_smaller_than_a_group(toy, workspace, backbone, tmp_path):
    # 60 documents and 24 queries; the try for memory fills 32 groups of 71.
    groups = {"strategy": "in_batch", "num_negatives": 70}
    stage = {"loss": {"name": "contrastive"}, "groups": groups, "queries_per_step": 32, "queries_per_forward": "auto"}
    job = toy_job(toy, workspace, backbone, {"a": stage | {"evaluations": 1}})
    assert run_job(job, tmp_path, lambda metrics, step: None)["steps"] == 1


def test_uniform_negatives_are_scored_by_the_teacher_itself(toy, workspace, backbone, taught, tmp_path):
    reports = []
    groups = {"strategy": "uniform", "num_negatives": 4, "unscored": "score_on_the_fly", "false_negative_margin": 0.1}
    loss = {"loss": {"name": "kl"}, "extra_losses": {"label": {"name": "contrastive"}}}
    job = job_of(toy, workspace, backbone, taught[0], [taught[1]], groups=groups, **loss)
    run_job(job, tmp_path / "checkpoints", lambda metrics, step: reports.append(metrics))
    assert reports[-1]["train/false_negatives_removed"] > 0
    # No negative is left within the margin, so the teacher agrees with every label.
    assert reports[-1]["train/teacher_pairwise_accuracy"] == 1.0
