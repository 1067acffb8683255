"""A small comparison with everything a report can show; its texts and names try to break out of the page."""

from __future__ import annotations

import json
import random
from pathlib import Path

from stillhouse.collection import materialise
from stillhouse.comparison import Content, Entrant, Ground, Section, build_content
from stillhouse.comparison.entrants import Curves
from stillhouse.evaluation.latency import Latency
from stillhouse.evaluation.measures import named_qrels
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.records import Run

EVIL = '<script>document.title = "taken"</script><img src="http://example.org/x.png"> | a & b </pre> `code`'
NUM_QUERIES, NUM_DOCS = 20, 40
STUDENT, TEACHER, CONTRASTIVE = "student <b>", "teacher", "contrastive"


def write_collection(folder: Path) -> Path:
    """Twenty queries with one relevant document each: query q3 has d3."""
    folder.mkdir(parents=True)
    docs = [{"doc_id": f"d{row}", "text": f"document {row} {EVIL}"} for row in range(NUM_DOCS)]
    queries = [{"query_id": f"q{row}", "text": f"query {row} {EVIL}"} for row in range(NUM_QUERIES)]
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in docs))
    (folder / "queries.test.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in queries))
    (folder / "qrels.test.tsv").write_text("".join(f"q{row}\t0\td{row}\t1\n" for row in range(NUM_QUERIES)))
    return folder


def make_run(ranks: list[int], seed: int) -> Run:
    """Ten documents a query, the relevant one at the rank given for it (1 is the top)."""
    rng = random.Random(seed)
    run: Run = {}
    for row, rank in enumerate(ranks):
        others = rng.sample([number for number in range(NUM_DOCS) if number != row], 9)
        order = [*others[: rank - 1], row, *others[rank - 1 :]]
        run[f"q{row}"] = {f"d{number}": 10.0 - place + rng.random() / 2 for place, number in enumerate(order)}
    return run


def make_ground(folder: Path) -> Ground:
    ref = f"{write_collection(folder / 'collection')}/test"
    collection = materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, folder / "workspace")
    return Ground(collection, "test", named_qrels(collection, "test"), "toy/test")


def make_content(folder: Path) -> Content:
    """Three rankers: the teacher ranks all relevant documents first, the others half of them second or third."""
    second, third = [1, 2] * (NUM_QUERIES // 2), [1, 3] * (NUM_QUERIES // 2)
    entrants = [
        Entrant(STUDENT, make_run(second, 1), Latency(20.0, 25.0, 2.0, 3.0, 10, 1, "cpu")),
        Entrant(CONTRASTIVE, make_run(third, 2), Latency(21.0, 26.0, 2.2, 3.0, 10, 1, "cpu")),
        Entrant(TEACHER, make_run([1] * NUM_QUERIES, 3), Latency(210.0, 260.0, None, None, 10, 1, "cpu")),
    ]
    loss = [(step, 1 / step) for step in range(1, 401)]
    curves = {
        STUDENT: Curves(loss, {"RR@10": [(10, 0.3), (20, 0.5)]}),
        CONTRASTIVE: Curves(loss, {"RR@10": [(10, 0.2), (20, 0.4)]}),
    }
    return build_content(
        f"Report {EVIL}",
        make_ground(folder),
        entrants,
        measures=["RR@10", "nDCG@10"],
        pairs=[(STUDENT, CONTRASTIVE), (STUDENT, TEACHER)],
        gap=(STUDENT, CONTRASTIVE, TEACHER),
        curves=curves,
        sections=[Section("Run", {"seed": "0", "evil": EVIL}, f"name: toy\nevil: {EVIL}\n")],
    )
