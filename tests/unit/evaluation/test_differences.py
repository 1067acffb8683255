from __future__ import annotations

import pytest

from stillhouse.collection import Collection
from stillhouse.errors import CollectionError
from stillhouse.evaluation.differences import differences


def test_the_largest_differences_with_their_texts(toy: Collection) -> None:
    queries, docs = toy.splits["train"].queries, toy.docs
    a, b = dict.fromkeys(queries.ids, 0.5), dict.fromkeys(queries.ids, 0.5)
    a["q1"], b["q2"], a["q3"], a["q4"] = 0.6, 0.9, 0.1, 0.9
    run = {"q3": {"d3": 2.0, "d5": 1.0, "d9": 2.0}}
    found = differences(a, b, toy, "train", 3, run_a=run, top=2)
    # 0.4 three times: by query id.
    assert [(each.query_id, round(each.difference, 2)) for each in found] == [("q2", -0.4), ("q3", -0.4), ("q4", 0.4)]
    second = found[1]
    assert second.query == queries.text(3)
    # The tie of d3 and d9 goes to d9; q3's one relevant document is d3.
    assert [(text.rank, text.doc_id, text.grade) for text in second.top_a] == [(1, "d9", None), (2, "d3", 1)]
    assert second.top_a[0].text == docs.text(9)
    assert second.top_b == ()
    assert [each.query_id for each in differences(a, b, toy, "train", 100)] == ["q2", "q3", "q4", "q1"]


def test_values_of_other_queries_are_refused(toy: Collection) -> None:
    with pytest.raises(CollectionError, match="different queries"):
        differences({"q1": 1.0}, {"q2": 1.0}, toy, "train")
