from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.errors import CollectionError
from stillhouse.evaluation.per_query import read_per_query, write_per_query
from stillhouse.evaluation.report import SystemResult


def test_reading_back_gives_the_same_values(tmp_path: Path) -> None:
    values = {"nDCG@10": {"q1": 0.1, "q2": 1 / 3}, "RR@10": {"q1": 0.5, "q2": 0.0}}
    other = {"nDCG@10": {"q1": 1.0, "q2": 0.0}}
    path = tmp_path / "per_query.parquet"
    write_per_query(path, [SystemResult("a", "test", values), SystemResult("b", "test", other)])
    assert read_per_query(path) == {("a", "test"): values, ("b", "test"): other}
    assert pq.read_metadata(path).num_rows == 6


def test_an_empty_table_and_other_files(tmp_path: Path) -> None:
    write_per_query(tmp_path / "none.parquet", [])
    assert read_per_query(tmp_path / "none.parquet") == {}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(CollectionError, match="columns x; expected ranker, split, measure, query_id, value"):
        read_per_query(tmp_path / "other.parquet")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(CollectionError, match="cannot be read as per-query Parquet"):
        read_per_query(tmp_path / "text")
