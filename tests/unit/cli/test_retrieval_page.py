"""The commands of docs/retrieval.md, as they stand there, at toy size."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.candidates import candidates_for
from stillhouse.collection import materialise
from stillhouse.evaluation.trec import ranked, read_run
from stillhouse.rankers import RANKERS
from stillhouse.recipe import load_recipe

PAGE = (Path(__file__).parents[3] / "docs" / "retrieval.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("stillhouse ")
]


def test_the_page_is_true(
    collection_folder: Path, backbone: Path, tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    (tmp_path / "path" / "to").mkdir(parents=True)
    os.symlink(collection_folder, tmp_path / "path" / "to" / "folder")
    caps = {"query_max_length": 16, "doc_max_length": 32}
    for name, kind in (("student", "dual_encoder"), ("teacher", "cross_encoder")):
        RANKERS[kind].from_backbone(str(backbone), **caps).save_pretrained(tmp_path / "runs" / "mine" / name)
    assert call("new", "mine.yaml", "--collection", "path/to/folder").status == 0
    assert len(COMMANDS) == 7
    for words in COMMANDS:
        if words[0] == "run":
            changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            mined_from(changes, tmp_path)
            continue
        # Ray's workers have their own test.
        done = call(*("1" if words[place - 1] == "--workers" else word for place, word in enumerate(words)))
        assert done.status == 0, (words, done.err)
    assert read_run(tmp_path / "reranked.trec.gz").keys() == read_run(tmp_path / "student.test.trec.gz").keys()


def mined_from(changes: list[str], folder: Path) -> None:
    """The recipe, so changed, takes the student's run for train and BM25 for dev."""
    recipe = load_recipe("mine.yaml", changes)
    collection = materialise(recipe.collection, 0, folder / "home")
    run = read_run(folder / "mined.train.trec.gz")
    mined = candidates_for(recipe.candidates, collection, "train", folder / "home")
    first = collection.splits["train"].queries.ids[0]
    expected = ranked(run[first])[: recipe.candidates.depth]
    assert [collection.docs.ids[doc] for doc in mined.rows(0)] == expected
    bm25 = candidates_for(recipe.candidates.model_copy(update={"source": "bm25"}), collection, "dev", folder / "home")
    assert candidates_for(recipe.candidates, collection, "dev", folder / "home").key == bm25.key
