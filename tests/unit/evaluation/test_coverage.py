from __future__ import annotations

import pytest

from stillhouse.errors import CollectionError
from stillhouse.evaluation.coverage import coverage


def test_counts_by_hand() -> None:
    run = {"q1": {"a": 1.0, "x": 0.5}, "q2": {}, "q9": {"a": 1.0, "y": 1.0}}
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}}
    found = coverage(run, qrels, {"a", "b"})
    # q9 is not measured, so its unknown document y does not count.
    assert (found.queries, found.missing_queries, found.other_queries, found.unknown_documents) == (
        3,
        ("q2", "q3"),
        1,
        1,
    )
    assert found.warnings() == [
        "2 of 3 queries have no results and count 0",
        "1 queries of the run are not in the qrels and are left out",
        "1 results name documents that are not in the collection",
    ]
    assert coverage({"q1": {"a": 1.0}}, {"q1": {"a": 1}}).warnings() == []


def test_qrels_of_another_collection() -> None:
    with pytest.raises(CollectionError, match=r"no query in common \(run: q1, qrels: 77\)"):
        coverage({"q1": {"a": 1.0}}, {"77": {"a": 1}})
