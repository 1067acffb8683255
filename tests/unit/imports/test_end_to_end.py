"""From a published file to the groups a stage trains on, through the parts a run uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stillhouse.candidates import candidates_for
from stillhouse.collection import Collection, materialise
from stillhouse.errors import StillhouseError
from stillhouse.losses import LOSSES
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec, GroupsSpec, ScoresTeacher
from stillhouse.scores.exchange import import_scores
from stillhouse.training.groups import GroupSampler, scoring_pairs
from stillhouse.training.teacher import TeacherScores
from tests.unit.imports.conftest import jsonl


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))


def recipe_lines(out: str) -> dict[str, Any]:
    """What the command said a recipe should have, read as YAML."""
    lines = out.partition("in a recipe:\n")[2].splitlines()
    return dict(pair for line in lines if line.startswith("  ") for pair in yaml.safe_load(line).items())


def collection_of(ref: str, root: Path) -> Collection:
    return materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, root)


def groups(collection: Collection, lines: dict[str, Any], root: Path, **spec: Any) -> GroupSampler:
    """The sampler of a stage over what the recipe lines name, filled as the pipeline fills it."""
    candidates = candidates_for(CandidatesSpec(**lines["candidates"]), collection, "train", root)
    split = collection.splits["train"]
    teacher = None
    if "teachers" in lines:
        named = ScoresTeacher(**lines["teachers"]["imported"])
        store = import_scores(Path(named.scores), root / "scores", collection, scale=named.scale).store
        wanted = scoring_pairs(split, candidates, None)
        pairs = np.asarray([(query, doc) for query, found in wanted.items() for doc in found])
        hashes = (
            [split.queries.hashes[row] for row in pairs[:, 0]],
            [collection.docs.hashes[row] for row in pairs[:, 1]],
        )
        teacher = TeacherScores(pairs[:, 0], pairs[:, 1], store.lookup(*hashes))
    return GroupSampler(split, collection.docs, candidates, GroupsSpec(**spec), 0, teacher)


def group(sampler: GroupSampler, collection: Collection, query_id: str) -> list[tuple[str, float, float]]:
    """(document, label, teacher's score) of a query's group."""
    found = sampler.group(collection.splits["train"].queries.row_of[query_id], epoch=0)
    ids = [collection.docs.ids[row] for row in found.doc_rows_K]
    return list(zip(ids, found.label_K.tolist(), found.teacher_K.tolist(), strict=True))


def test_rlhn_rows_train_without_another_collection(
    tmp_path: Path, call: Callable[..., Any], rlhn_rows: list[dict[str, Any]]
) -> None:
    done = call("import", "rlhn", jsonl(tmp_path / "r.jsonl", rlhn_rows), "-o", tmp_path / "rlhn")
    assert done.status == 0, done.err
    lines = recipe_lines(done.out)
    collection = collection_of(lines["collection.train"], tmp_path)
    text = collection.docs.text(collection.docs.row_of["4#1"])
    assert text == "Ferries\nA ferry crosses the strait."
    sampler = groups(collection, lines, tmp_path, strategy="top", num_negatives=3)
    assert [(doc, label) for doc, label, _ in group(sampler, collection, "fc1d2e")] == [
        ("9#0", 1.0),
        ("4#1", 0.0),
        ("7#0", 0.0),
        ("2#2", 0.0),
    ]
    # 2#2 is a positive of this query: relabelled, it is nobody's negative here.
    assert [label for _, label, _ in group(sampler, collection, "0ab9")] == [1.0, 0.0]


def test_a_teachers_scores_of_rlhn_reach_its_groups(
    tmp_path: Path, call: Callable[..., Any], rlhn_rows: list[dict[str, Any]]
) -> None:
    """RLHN's rows make the collection; Tevatron's annotation of them, which has no ids, is matched by the texts."""
    call("import", "rlhn", jsonl(tmp_path / "r.jsonl", rlhn_rows), "-o", tmp_path / "rlhn")
    annotated = [
        {
            "query_id": str(number),
            "query": row["query"],
            "passages": [
                {"title": one["title"], "text": one["text"]}
                for one in row["positive_passages"][:1] + row["negative_passages"]
            ],
            "scores": [10.5 - number - place for place in range(1 + len(row["negative_passages"]))],
        }
        for number, row in enumerate(rlhn_rows)
    ]
    done = call(
        "import", "tevatron", jsonl(tmp_path / "t.jsonl", annotated), "-o", tmp_path / "scores-of-rlhn",
        "--collection", tmp_path / "rlhn", "--store", tmp_path / "scores",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "6 scores are new in store" in done.out
    lines = recipe_lines(done.out)
    assert lines["teachers"]["imported"]["scale"] == "logit"
    collection = collection_of(f"{tmp_path / 'rlhn'}/train", tmp_path)
    sampler = groups(collection, lines, tmp_path, strategy="top", num_negatives=3)
    assert group(sampler, collection, "fc1d2e") == [
        ("9#0", 1.0, 10.5),
        ("4#1", 0.0, 9.5),
        ("7#0", 0.0, 8.5),
        ("2#2", 0.0, 7.5),
    ]


def test_published_triple_scores_reach_the_groups_of_a_collection(
    tmp_path: Path, call: Callable[..., Any], collection_folder: Path
) -> None:
    (tmp_path / "bert_cat_ensemble.tsv").write_text(
        "11.25\t-3.5\tq0\td0\td5\n11.2501\t4.75\tq0\td0\td6\n7.5\t8.5\tq1\td1\td0\n"
    )
    done = call(
        "import",
        "teacher-scores",
        tmp_path / "bert_cat_ensemble.tsv",
        "-o",
        tmp_path / "t2",
        "--collection",
        collection_folder,
    )
    assert done.status == 0, done.err
    lines = recipe_lines(done.out)
    assert lines["stages.<stage>.groups"]["triples"] == str(tmp_path / "t2" / "triples.train.tsv.gz")
    collection = collection_of(lines["collection.train"], tmp_path)
    sampler = groups(collection, lines, tmp_path, strategy="teacher_top", num_negatives=2)
    assert group(sampler, collection, "q0") == [("d0", 1.0, 11.25), ("d6", 0.0, 4.75), ("d5", 0.0, -3.5)]
    assert group(sampler, collection, "q1") == [("d1", 1.0, 7.5), ("d0", 0.0, 8.5)]


def test_permutations_teach_an_order_and_nothing_else(
    tmp_path: Path, call: Callable[..., Any], collection_folder: Path
) -> None:
    found = [json.loads(line) for line in (collection_folder / "corpus.jsonl").read_text().splitlines()[:4]]
    row = {
        "query_id": "q0",
        "query": json.loads((collection_folder / "queries.train.jsonl").read_text().splitlines()[0])["text"],
        "positive_passages": [{"docid": "d0", "text": found[0]["text"]}],
        "retrieved_passages": [{"docid": doc["doc_id"], "text": doc["text"]} for doc in found],
    }
    (tmp_path / "answers.json").write_text('["[3] > [1] > [4] > [2]"]')
    files = (jsonl(tmp_path / "rows.jsonl", [row]), tmp_path / "answers.json")
    done = call("import", "rankgpt", *files, "-o", tmp_path / "gpt", "--collection", collection_folder)
    lines = recipe_lines(done.out)
    scale = lines["teachers"]["imported"]["scale"]
    assert scale == "order"
    LOSSES["ranknet_order"].check_scale(scale)
    with pytest.raises(StillhouseError, match="order"):
        LOSSES["margin_mse"].check_scale(scale)
    collection = collection_of(lines["collection.train"], tmp_path)
    found_group = group(groups(collection, lines, tmp_path, strategy="teacher_top", num_negatives=3), collection, "q0")
    assert [doc for doc, _, _ in found_group] == ["d0", "d2", "d3", "d1"]  # the positive, then as it was permuted
    np.testing.assert_allclose([score for _, _, score in found_group], [1 / 2, 1, 1 / 3, 1 / 4], rtol=1e-6)


def test_what_cannot_be_is_told(tmp_path: Path, call: Callable[..., Any]) -> None:
    (tmp_path / "t.tsv").write_text("1 2 3\n")
    for arguments, error in (
        (("--scale", "logit"), "triples: has no scores; leave --scale and --store out"),
        (("--store", tmp_path / "s"), "triples: has no scores; leave --scale and --store out"),
        (("--collection", tmp_path), f"{tmp_path}: no corpus.jsonl or corpus.jsonl.gz"),
    ):
        done = call("import", "triples", tmp_path / "t.tsv", "-o", tmp_path / "made", *arguments)
        assert done.status == 1
        assert done.err.startswith(f"error: {error}")
    done = call("import", "rankgpt", tmp_path / "t.tsv", "-o", tmp_path / "made", "--scale", "logit")
    assert done.err == "error: --scale logit: rankgpt can be order\n"
    assert call("import", "msmarco", tmp_path / "t.tsv", "-o", tmp_path / "made").status == 2
    assert not (tmp_path / "made").exists()
