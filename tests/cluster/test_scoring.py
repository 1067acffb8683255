"""Scoring on a real cluster: which pairs, how many actors, what is new. What dies is in test_fault_matrix.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from stillhouse.scores.generation import add_missing
from stillhouse.scores.journal import read_jobs
from stillhouse.scores.pipeline import ScoreReport
from stillhouse.scores.placement import Placement, place
from stillhouse.scores.store import ScoreStore
from tests.cluster.scoring_world import DEPTH, NUM_QUERIES, World, file_rows, rows_of


def test_scores_are_the_ranker_s_and_progress_reaches_the_end(
    world: World, whole: tuple[ScoreStore, ScoreReport]
) -> None:
    store, report = whole
    assert (report.scored, report.reused) == (NUM_QUERIES * DEPTH, 0)
    docs, queries = world.collection.docs, world.collection.splits["train"].queries
    table = pa.concat_tables([store.table(number) for number in range(store.partitions)]).to_pylist()
    assert len(table) == NUM_QUERIES * DEPTH
    by_pair = {(row["query_id"], row["doc_id"]): row for row in table}
    for query_row in (0, 17, NUM_QUERIES - 1):
        doc_rows = [d for q, d in rows_of(world.pairs) if q == query_row]
        expected = world.ranker.score([queries.text(query_row)], [docs.texts(doc_rows)])[0]
        rows = [by_pair[queries.ids[query_row], docs.ids[doc_row]] for doc_row in doc_rows]
        np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=1e-4, atol=1e-6)
        # One word is one token; the caps are 8 and 24.
        lengths = [len(docs.text(row).split()) for row in doc_rows]
        query_length = len(queries.text(query_row).split())
        assert [row["num_tokens"] for row in rows] == [query_length + min(length, 24) for length in lengths]
        assert [row["truncated"] for row in rows] == [length > 24 for length in lengths]
    assert report.truncated_share == sum(row["truncated"] for row in table) / len(table)


def test_nothing_missing_starts_nothing_and_takes_no_time(world: World, whole: tuple[ScoreStore, ScoreReport]) -> None:
    store, _ = whole
    jobs = len(read_jobs(store.path))
    report = world.score(store)
    assert (report.scored, report.reused) == (0, NUM_QUERIES * DEPTH)
    assert report.seconds < 1
    assert len(read_jobs(store.path)) == jobs


def test_actors_never_take_the_last_cpu(cluster: None) -> None:
    assert place(None, 100) == Placement(actors=2, num_cpus=0.5, num_gpus=0, threads=1, grows=True)
    assert place(None, 1) == Placement(actors=1, num_cpus=1, num_gpus=0, threads=1, grows=True)
    assert place(1, 100) == Placement(actors=1, num_cpus=1, num_gpus=0, threads=2)
    assert place(8, 100) == Placement(actors=8, num_cpus=0.125, num_gpus=0, threads=1)


def test_more_depth_scores_only_what_is_new_and_other_cuts_change_the_last_bits_at_most(
    world: World, whole: tuple[ScoreStore, ScoreReport], tmp_path: Path
) -> None:
    store = world.store(tmp_path)
    store.create()
    shallow = {(f"train{q}", f"d{d}") for q, d in rows_of(world.pairs)[::3]}
    for number in range(store.partitions):
        rows = whole[0].table(number)
        kept = [pair in shallow for pair in zip(rows["query_id"].to_pylist(), rows["doc_id"].to_pylist(), strict=True)]
        add_missing(store, rows.filter(pa.array(kept)))
    twice = pa.concat_tables([world.pairs, world.pairs])
    seen: list[tuple[int, int]] = []
    report = world.score(store, twice, shard_size=200, progress=lambda done, total, info: seen.append((done, total)))
    assert (report.scored, report.reused) == (NUM_QUERIES * 20, NUM_QUERIES * 10)
    assert seen == sorted(seen)
    assert seen[0] == (NUM_QUERIES * 10, NUM_QUERIES * DEPTH)
    assert seen[-1] == (NUM_QUERIES * DEPTH, NUM_QUERIES * DEPTH)
    assert len(store) == NUM_QUERIES * DEPTH == sum(file_rows(store))
    for number in range(store.partitions):
        keys, scores = store.partition(number)
        np.testing.assert_allclose(scores, whole[0].lookup_keys(keys), rtol=1e-4, atol=1e-6)
