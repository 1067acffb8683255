"""`stillhouse train`: the saved student says in its card what it was trained on and by whom."""

from __future__ import annotations

import json

from rich.console import Console

from stillhouse.pipeline import verbs
from stillhouse.rankers import load_ranker
from stillhouse.rankers.card import body_of
from stillhouse.recipe import make_recipe
from tests.unit.pipeline.test_baselines import tree


def test_the_card_names_data_teacher_and_dev_figure(collection_folder, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = tree(collection_folder, backbone)
    toy |= {"teachers": {"a": toy["teachers"]["a"]}, "teacher_selection": "mean", "baselines": {}}
    toy |= {"store": {"path": str(tmp_path / "scores"), "actors": 0}}
    folder = verbs.train(make_recipe(toy), console=Console(quiet=True))
    body = body_of((folder / "README.md").read_text())
    assert "Recipe `toy`, seed 0" in body
    assert str(collection_folder) in body
    assert "name: kl" in body
    (store,) = {path.name for path in (tmp_path / "scores").iterdir() if path.is_dir()}
    assert f"Taught by a; its scores are in the score stores {store}." in body
    (done,) = [
        facts
        for path in (tmp_path / ".stillhouse" / "models").glob("*/done.json")
        if "kl" in json.dumps(facts := json.loads(path.read_text()))
    ]
    assert f"nDCG@10 {done['nDCG@10']:.4f}" in body.partition("## Measured")[2]
    load_ranker(folder)
