from __future__ import annotations

import ir_datasets
import pytest

import stillhouse.collection
from stillhouse.collection import pydocs


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The registered ids, with fewer packages than the default so that the build takes a moment."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(pydocs, "PACKAGES", ("numpy.polynomial", "asyncio", "unittest", "email"))
    return tmp_path


def test_importing_the_package_registers_its_ids():
    assert {f"stillhouse/pydocs{tail}" for tail in ("", "/train", "/dev", "/test")} <= set(ir_datasets.registry)
    stillhouse.collection.register()  # again: nothing happens


def test_a_split_is_read_as_any_dataset(small):
    dataset = ir_datasets.load("stillhouse/pydocs/train")
    assert not list(small.iterdir())  # nothing is built before it is needed
    docs = {doc.doc_id: doc.text for doc in dataset.docs_iter()}
    queries = {query.query_id: query.default_text() for query in dataset.queries_iter()}
    qrels = list(dataset.qrels_iter())
    assert len(docs) == dataset.docs_count()
    assert len(queries) == dataset.queries_count() == len(qrels) == dataset.qrels_count()
    assert {qrel.query_id for qrel in qrels} == set(queries)
    assert {qrel.doc_id for qrel in qrels} <= set(docs)
    first = qrels[0]
    store = dataset.docs_store()
    assert store.get(first.doc_id).text == docs[first.doc_id]
    assert store.get_many([first.doc_id, "nothing"]) == {first.doc_id: (first.doc_id, docs[first.doc_id])}
    assert [doc.doc_id for doc in dataset.docs_iter()[:3]] == list(docs)[:3]
    assert (small / "pydocs").is_dir()


def test_the_digest_is_that_of_the_files(small):
    folder = pydocs.build(pydocs.PACKAGES, small)
    assert ir_datasets.load("stillhouse/pydocs/dev").digest() == pydocs.facts(folder)["digest"]


def test_documents_are_shared_between_the_splits():
    assert ir_datasets.docs_parent_id("stillhouse/pydocs/test") == "stillhouse/pydocs"
