"""Full retrieval against the scores of every pair, and retrieval by an index against full retrieval."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.candidates import candidates_for
from stillhouse.collection import Collection
from stillhouse.errors import RecipeError
from stillhouse.evaluation import retrieve as module
from stillhouse.evaluation.ann import ann_options, open_index
from stillhouse.evaluation.approximate import by_token, check_recall, recall, searcher
from stillhouse.evaluation.encode import encode, encoding_of
from stillhouse.evaluation.retrieve import encode_queries, retrieve
from stillhouse.evaluation.trec import ranked, write_run
from stillhouse.rankers import RANKERS, Ranker
from stillhouse.recipe.tree import CandidatesSpec, GroupsSpec
from stillhouse.training.groups import GroupSampler

CAPS = {"query_max_length": 8, "doc_max_length": 16}


@pytest.fixture(scope="module")
def colbert(backbone: Path) -> Ranker:
    return RANKERS["colbert"].from_backbone(str(backbone), seed=1, projection_dim=8, **CAPS)


@pytest.fixture(scope="module")
def tk(backbone: Path) -> Ranker:
    return RANKERS["tk"].from_backbone(str(backbone), seed=1, **CAPS)


@pytest.mark.parametrize("key", ["dual_encoder", "colbert", "tk"])
def test_exact_search_finds_the_best_of_all_pairs(
    key: str, request: pytest.FixtureRequest, toy: Collection, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of 24 or 3 documents, of 5 queries.
    monkeypatch.setattr(module, "DOCS_PER_CHUNK", 24)
    monkeypatch.setattr(module, "QUERIES_AT_ONCE", 5)
    ranker = request.getfixturevalue(key)
    seen: list[tuple[int, int]] = []
    run = retrieve(ranker, toy, "dev", 7, workspace, progress=lambda *state: seen.append(state))
    assert seen[-1] == (120, 120)
    queries, docs = toy.splits["dev"].queries, toy.docs
    scores_QN = ranker.score(queries.texts(range(8)), [docs.texts(range(60))] * 8).numpy()
    assert list(run) == list(queries.ids)
    for row, query_id in enumerate(queries.ids):
        best = sorted(zip(scores_QN[row].tolist(), docs.ids, strict=True), reverse=True)[:7]
        assert [run[query_id][doc_id] for doc_id in ranked(run[query_id])] == pytest.approx(
            [score for score, _ in best], abs=1e-4
        )
        for doc_id, score in run[query_id].items():
            assert score == pytest.approx(float(scores_QN[row, docs.row_of[doc_id]]), abs=1e-4)


@pytest.mark.parametrize("key", ["dual_encoder", "colbert"])
def test_an_index_that_misses_nothing_gives_the_exact_run(
    key: str, request: pytest.FixtureRequest, toy: Collection, workspace: Path
) -> None:
    ranker = request.getfixturevalue(key)
    encoded = encoding_of(ranker, toy.docs, workspace)
    encode(ranker, toy.docs, workspace, encoded)
    exact = retrieve(ranker, toy, "dev", 10, workspace, encoded=encoded)
    # The tiny ColBERT has about 500 vectors in all.
    index = open_index(encoded, ann_options("flat", ["per_token=2000"]), workspace)
    run = retrieve(ranker, toy, "dev", 10, workspace, encoded=encoded, search=searcher(ranker, encoded, index))
    assert run.keys() == exact.keys()
    for query_id, scores in exact.items():
        assert list(run[query_id].values()) == pytest.approx(list(scores.values()), abs=1e-5)
    found = check_recall(ranker, toy, "dev", encoded, run, workspace, 5, [3, 10])
    assert found == {3: 1.0, 10: 1.0}


def test_few_tokens_find_fewer_documents_with_exact_scores(colbert: Ranker, toy: Collection, workspace: Path) -> None:
    encoded = encoding_of(colbert, toy.docs, workspace)
    encode(colbert, toy.docs, workspace, encoded)
    index = open_index(encoded, ann_options("hnsw", ["per_token=1"]), workspace)
    ids = [colbert.tokenise(["river stone"])[0]]
    with colbert.inference():
        queries = encode_queries(colbert, ids)
        (rows,) = by_token(encoded, index, queries, 60)
        tokens = int(queries.mask_NL.sum())
    # One more than asked for, for each token, and their spares.
    assert 0 < len(rows) <= tokens * 17
    run = retrieve(colbert, toy, "dev", 60, workspace, encoded=encoded, search=searcher(colbert, encoded, index))
    everything = retrieve(colbert, toy, "dev", 60, workspace, encoded=encoded)
    assert all(len(scores) <= 60 for scores in run.values())
    for query_id, scores in run.items():
        for doc_id, score in scores.items():
            assert score == pytest.approx(everything[query_id][doc_id], abs=1e-5)
    assert 0 < recall(run, everything, 10) <= 1


def test_an_index_is_for_products_only(tk: Ranker, toy: Collection, workspace: Path) -> None:
    encoded = encoding_of(tk, toy.docs, workspace)
    with pytest.raises(RecipeError, match="dual_encoder and colbert, whose scores are products of vectors, not tk"):
        searcher(tk, encoded, None)  # type: ignore[arg-type]


def test_hard_negatives_of_ones_own_student(
    dual_encoder: Ranker, toy: Collection, workspace: Path, tmp_path: Path
) -> None:
    run = retrieve(dual_encoder, toy, "train", 12, workspace)
    write_run(tmp_path / "student.train.trec.gz", run, "student")
    spec = CandidatesSpec(source=str(tmp_path / "student.{split}.trec.gz"), depth=12)
    mined = candidates_for(spec, toy, "train", tmp_path)
    split = toy.splits["train"]
    sampler = GroupSampler(split, toy.docs, mined, GroupsSpec(strategy="top", num_negatives=8), 0)
    masked = 0
    for row, query_id in enumerate(split.queries.ids):
        assert [toy.docs.ids[doc] for doc in mined.rows(row)] == ranked(run[query_id])
        (positive,) = split.qrels[row]
        masked += positive in mined.rows(row)
        group = sampler.group(row, 0)
        expected = [doc for doc in mined.rows(row).tolist() if doc != positive][:8]
        assert group.doc_rows_K.tolist() == [positive, *expected]
    # Some queries do find their positive: it is left out of the negatives.
    assert masked > 0
