"""What evaluations inside a training leave on disk: a line of metrics each, and scores of a sample of queries."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import atomic_file, write_json
from stillhouse.evaluation.measures import PerQuery
from stillhouse.records import Run
from stillhouse.training.curve import CURVE, append_point

EVALUATIONS = "evaluations.jsonl"
LINES = (CURVE, EVALUATIONS)
"""Files of a line for each step or evaluation: trimmed on resume, kept beside the ranker."""
PER_QUERY = "dev_per_query.json"
"""Measure -> query id -> value, of the evaluation whose weights the last stage ends with."""
SCORES = "scores"
SCHEMA = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("score", pa.float32())])


def write_values(folder: Path, step: int, values: PerQuery) -> None:
    """Measures of each dev query at a step, in the place of an earlier step's."""
    write_json(folder / PER_QUERY, {"step": step, "measures": values})


def append_metrics(folder: Path, step: int, metrics: Mapping[str, float]) -> None:
    """One line: dev measures by their names; those of train queries and the diagnostics as `train/<name>`."""
    append_point(folder, {"step": step, "time": time.time(), **metrics}, EVALUATIONS)


def read_metrics(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The steps and metrics of the evaluations so far; a last line that a kill tore is left out."""
    path = folder / EVALUATIONS
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            point: dict[str, float] = json.loads(line)
        except ValueError:
            return
        step = int(point.pop("step"))
        point.pop("time")
        yield step, point


def write_scores(folder: Path, step: int, run: Run, query_ids: Iterable[str]) -> None:
    """The scores of some queries at a step; a resumed training writes the same file again."""
    rows = [(query_id, doc_id, score) for query_id in query_ids for doc_id, score in run.get(query_id, {}).items()]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    with atomic_file(folder / SCORES / f"step={step:08d}.parquet") as temporary:
        pq.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), temporary)


def read_scores(folder: Path) -> dict[int, Run]:
    """Step -> the scores kept then; empty where a training kept none."""
    found: dict[int, Run] = {}
    for path in sorted((folder / SCORES).glob("step=*.parquet")):
        run: Run = {}
        # Not as a data set: `step=...` in the name would become a column.
        for row in pq.ParquetFile(path).read().to_pylist():
            run.setdefault(row["query_id"], {})[row["doc_id"]] = row["score"]
        found[int(path.stem.removeprefix("step="))] = run
    return found


def keep(folder: Path, output: Path) -> None:
    """Copy what a training has left beside its ranker."""
    for name in (*LINES, PER_QUERY):
        if (folder / name).exists():
            shutil.copy(folder / name, output / name)
    if (folder / SCORES).is_dir():
        shutil.copytree(folder / SCORES, output / SCORES, dirs_exist_ok=True)
