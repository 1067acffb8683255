from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse.candidates import Candidates
from stillhouse.collection import Collection
from stillhouse.errors import RecipeError, TrainingError
from stillhouse.evaluation import rerank as module
from stillhouse.evaluation.latency import latency
from stillhouse.evaluation.measures import named_qrels, per_query
from stillhouse.evaluation.rerank import chunks, pairs_per_chunk, rerank
from stillhouse.evaluation.retrieve import retrieve
from stillhouse.evaluation.trec import ranked
from stillhouse.rankers import Ranker


def _scored_one_by_one(
    ranker: Ranker, toy: Collection, candidates: Candidates, row: int, depth: int
) -> dict[str, float]:
    """Texts straight through the ranker, one pair at a time."""
    query = toy.splits["train"].queries.text(row)
    docs = candidates.rows(row)[:depth].tolist()
    return {toy.docs.ids[doc]: float(ranker.score([query], [[toy.docs.text(doc)]])[0, 0]) for doc in docs}


@pytest.mark.parametrize("key", ["cross_encoder", "dual_encoder"])
def test_scores_are_those_of_the_texts(
    key: str, request: pytest.FixtureRequest, toy: Collection, toy_candidates: Candidates, workspace: Path
) -> None:
    ranker = request.getfixturevalue(key)
    seen: list[tuple[int, int]] = []
    run = rerank(ranker, toy, "train", toy_candidates, 5, workspace, progress=lambda *state: seen.append(state))
    ids = toy.splits["train"].queries.ids
    assert seen[-1] == (len(ids), len(ids))
    assert list(run) == [ids[row] for row in range(len(ids)) if len(toy_candidates.rows(row))]
    for row in (0, 7, 23):
        expected = _scored_one_by_one(ranker, toy, toy_candidates, row, depth=5)
        assert run[ids[row]] == pytest.approx(expected, abs=1e-5)


def test_chunks_change_nothing(
    cross_encoder: Ranker,
    toy: Collection,
    toy_candidates: Candidates,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = rerank(cross_encoder, toy, "train", toy_candidates, 12, workspace)
    cut = cross_encoder.truncation
    monkeypatch.setattr(module, "PAIRS_PER_CHUNK", 30)
    parts = rerank(cross_encoder, toy, "train", toy_candidates, 12, workspace)
    assert list(parts) == list(whole)
    for query_id, scores in whole.items():
        assert parts[query_id] == pytest.approx(scores, abs=1e-5)
    # Documents of up to 24 words meet a cap of 16: the count is over all chunks.
    assert 0 < cut.truncated < cut.texts
    assert cross_encoder.truncation == cut


def test_chunks_hold_whole_queries_up_to_the_limit(toy_candidates: Candidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS_PER_CHUNK", 25)
    rows = [3, 1, 2, 0]
    parts = list(chunks(toy_candidates, rows, 12, pairs_per_chunk(separable=False)))
    assert [row for chunk in parts for row, _ in chunk] == rows
    sizes = [sum(len(docs) for _, docs in chunk) for chunk in parts]
    assert max(sizes) <= 25
    assert sum(sizes) == sum(len(toy_candidates.rows(row)) for row in rows)
    # A query larger than the limit stands alone.
    monkeypatch.setattr(module, "PAIRS_PER_CHUNK", 1)
    assert [len(chunk) for chunk in chunks(toy_candidates, rows, 12, pairs_per_chunk(separable=False))] == [1, 1, 1, 1]


def test_only_the_queries_asked_for(
    dual_encoder: Ranker, toy: Collection, toy_candidates: Candidates, workspace: Path
) -> None:
    run = rerank(dual_encoder, toy, "train", toy_candidates, 3, workspace, query_rows=[5, 2])
    ids = toy.splits["train"].queries.ids
    assert list(run) == [ids[5], ids[2]]
    qrels = named_qrels(toy, "train", [5, 2])
    assert list(qrels) == [ids[5], ids[2]]
    assert set(per_query(run, qrels, ["RR@10"])["RR@10"]) == {ids[5], ids[2]}
    assert len(named_qrels(toy, "train")) == len(ids)


def test_broken_weights_are_named(
    backbone: Path, toy: Collection, toy_candidates: Candidates, workspace: Path, cross_encoder: Ranker
) -> None:
    broken = type(cross_encoder).from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=16)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"query q0, document d\d+: the ranker's score is not finite"):
        rerank(broken, toy, "train", toy_candidates, 3, workspace)


def test_full_retrieval_is_re_ranking_of_everything(
    dual_encoder: Ranker, toy: Collection, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillhouse.evaluation.retrieve.DOCS_PER_CHUNK", 7)
    run = retrieve(dual_encoder, toy, "dev", 10, workspace)
    queries, docs = toy.splits["dev"].queries, toy.docs
    scores_QN = dual_encoder.score(
        queries.texts(range(len(queries))), [docs.texts(range(len(docs)))] * len(queries)
    ).numpy()
    for row, query_id in enumerate(queries.ids):
        assert len(run[query_id]) == 10
        expected = [docs.ids[doc] for doc in np.argsort(-scores_QN[row])[:10]]
        assert ranked(run[query_id]) == expected
        assert run[query_id][expected[0]] == pytest.approx(float(scores_QN[row].max()), abs=1e-5)


def test_full_retrieval_needs_a_separable_ranker(cross_encoder: Ranker, toy: Collection, workspace: Path) -> None:
    with pytest.raises(RecipeError, match="full retrieval needs a separable ranker, cross_encoder"):
        retrieve(cross_encoder, toy, "dev", 10, workspace)


def test_latency_times_what_it_says(
    cross_encoder: Ranker, dual_encoder: Ranker, toy: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = toy.docs.texts(range(50))
    joint = latency(cross_encoder, "river stone", docs, repeats=3, warmup=1)
    assert joint.cached_median_ms is None
    assert 0 < joint.median_ms <= joint.p95_ms
    assert (joint.documents, joint.threads, joint.device) == (50, torch.get_num_threads(), "cpu")
    apart = latency(dual_encoder, "river stone", docs, repeats=3, warmup=1)
    # The documents' 50 encodings are left out.
    assert apart.cached_median_ms is not None
    assert apart.cached_median_ms < apart.median_ms
