from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from stillhouse.collection.tokens import TokenIds
from stillhouse.training.costs import workload


def tokens(folder: Path, texts: list[list[int]]) -> TokenIds:
    folder.mkdir()
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, texts)]))
    np.save(folder / "ids.npy", np.array([one for text in texts for one in text], dtype=np.int32))
    return TokenIds(folder)


def data(folder: Path, num_docs: int) -> Any:
    queries = tokens(folder / "queries", [[1] * length for length in (9, 2, 5, 4, 5, 7)])
    docs = tokens(folder / "docs", [[number] for number in range(num_docs)])
    return SimpleNamespace(dev_query_ids=queries, doc_ids=docs)


def test_a_thousand_documents_spread_over_the_collection_and_the_median_query(tmp_path: Path) -> None:
    query, docs = workload(data(tmp_path, 2500))
    assert query == [1] * 5  # lengths 2 4 5 5 7 9: the lower of the two in the middle
    rows = [doc for (doc,) in docs]
    assert len(set(rows)) == 1000
    assert (rows[0], rows[-1]) == (0, 2499)
    assert set(np.diff(rows)) <= {2, 3}


def test_all_documents_of_a_small_collection(tmp_path: Path) -> None:
    assert [doc for (doc,) in workload(data(tmp_path, 7))[1]] == list(range(7))
