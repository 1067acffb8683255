"""Per-query values on disk: one Parquet file for all systems of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import atomic_file
from stillhouse.errors import CollectionError
from stillhouse.evaluation.measures import PerQuery

if TYPE_CHECKING:
    from stillhouse.evaluation.report import SystemResult

SCHEMA = pa.schema(
    [
        ("ranker", pa.string()),
        ("split", pa.string()),
        ("measure", pa.string()),
        ("query_id", pa.string()),
        ("value", pa.float64()),
    ]
)


def write_per_query(path: Path, systems: Sequence[SystemResult]) -> None:
    """One row per system, measure and query."""
    rows = [
        (system.name, system.split, measure, query_id, value)
        for system in systems
        for measure, values in system.per_query.items()
        for query_id, value in values.items()
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), temporary)


def read_per_query(path: Path) -> dict[tuple[str, str], PerQuery]:
    """(ranker, split) -> measure -> query_id -> value."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise CollectionError(f"{path}: cannot be read as per-query Parquet: {str(error).splitlines()[0]}") from None
    if not table.schema.equals(SCHEMA):
        raise CollectionError(f"{path}: columns {', '.join(table.schema.names)}; expected {', '.join(SCHEMA.names)}")
    found: dict[tuple[str, str], PerQuery] = {}
    columns = [table[name].to_pylist() for name in SCHEMA.names]
    for ranker, split, measure, query_id, value in zip(*columns, strict=True):
        found.setdefault((ranker, split), {}).setdefault(measure, {})[query_id] = value
    return found
