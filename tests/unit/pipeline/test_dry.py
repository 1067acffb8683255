"""Every shipped recipe names only what there is: ids, rankers, losses, spaces; no data is read, nothing downloaded."""

from __future__ import annotations

import socket

import pytest

from stillhouse.errors import StillhouseError
from stillhouse.pipeline.dry import dry_run
from stillhouse.recipe import find_file, load_recipe, shipped_files

SHIPPED = [path.stem for path in shipped_files("jobs/recipes")]
FULL = [name for name in SHIPPED if name.startswith(("hofstatter", "menon", "xu", "pezzuti")) and "-mini" not in name]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_resolve(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("a dry run asks nobody")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = dict(dry_run(load_recipe(name)))
    assert {"collection.train", "collection.test", "candidates", "student"} <= set(found)


@pytest.mark.parametrize("name", FULL)
def test_every_value_of_a_paper_says_where_it_comes_from(name):
    """Optimiser, batch and document caps of the student's stages carry `published` or `assumed` on their line."""
    lines = find_file(name, "jobs/recipes").read_text().splitlines()
    keys = ("optimizer:", "queries_per_step:", "epochs:", "num_negatives:")
    named = [line for line in lines if line.strip().startswith(keys)]
    assert len(named) >= 3
    for line in named:
        assert "published" in line or "assumed" in line or "so that max_steps ends it" in line, line


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("collection.test=msmarco-passage/dev/smal", "did you mean msmarco-passage/dev/small"),
        ("collection.test=msmarco-passage/train/triples-smal", "did you mean"),
        ("student.backbone=a b", r"student\.backbone: 'a b' is no folder and no hub name"),
        ("teachers={t: {scores: nowhere.tsv, scale: order}}", "gives only an order"),
        ("evaluation.measures=[nDCG10]", "nDCG10"),
    ],
)
def test_a_wrong_name_is_one_line(setting, said):
    with pytest.raises(StillhouseError, match=said) as caught:
        dry_run(load_recipe("menon-losses", [setting]))
    assert "\n" not in str(caught.value)
