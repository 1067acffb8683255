from __future__ import annotations

import ir_datasets
import pytest
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import TrecQrels, TrecScoredDocs, TsvDocs, TsvQueries
from ir_datasets.util import LocalDownload

from stillhouse.candidates import candidates_for
from stillhouse.collection import materialise, scoreddocs
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    """A dataset of ir_datasets' own making, from files, with scoreddocs."""
    folder = tmp_path_factory.mktemp("ir")
    (folder / "docs.tsv").write_text("d1\tcats purr\nd2\tdogs bark\nd3\tfish swim\n")
    (folder / "queries.tsv").write_text("q1\tpurring\nq2\tbarking\n")
    (folder / "qrels.txt").write_text("q1 0 d1 1\nq2 0 d2 2\n")
    (folder / "run.txt").write_text("q1 Q0 d2 1 2.5 x\nq1 Q0 d1 2 1.5 x\nq2 Q0 d9 1 9 x\nq2 Q0 d2 2 3 x\n")
    files = {path.name: LocalDownload(path) for path in folder.iterdir()}
    parts = [
        TsvDocs(files["docs.tsv"]),
        TsvQueries(files["queries.tsv"]),
        TrecQrels(files["qrels.txt"], {}),
        TrecScoredDocs(files["run.txt"]),
    ]
    ir_datasets.registry.register("tiny-animals", Dataset(*parts))
    ir_datasets.registry.register("tiny-animals-docs", Dataset(parts[0]))
    return "tiny-animals"


def test_any_id_is_a_collection(ref, tmp_path):
    collection = materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, tmp_path)
    assert collection.docs.texts(range(3)) == ["cats purr", "dogs bark", "fish swim"]
    assert collection.splits["dev"].queries.texts([0, 1]) == ["purring", "barking"]
    assert collection.splits["dev"].qrels == {0: {0: 1}, 1: {1: 2}}


def test_its_scoreddocs_are_candidates(ref, tmp_path):
    collection = materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, tmp_path)
    candidates = candidates_for(CandidatesSpec(source="scoreddocs", depth=2), collection, "test", tmp_path)
    assert candidates.run(collection, "test") == {"q1": {"d2": 2.5, "d1": 1.5}, "q2": {"d2": 3.0}}
    assert candidates.facts["lines of unknown documents"] == 1


def test_an_id_without_queries_or_scoreddocs_says_so(ref, tmp_path):
    docs = "tiny-animals-docs"
    with pytest.raises(CollectionError, match="tiny-animals-docs: has no queries"):
        materialise(CollectionSpec(train=docs, dev=docs, test=docs), 0, tmp_path)
    with pytest.raises(CollectionError, match="tiny-animals-docs: has no scoreddocs"):
        list(scoreddocs(docs))
