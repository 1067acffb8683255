"""`stillhouse train`: the saved student says in its card what it was trained on and by whom; its record repeats it."""

from __future__ import annotations

import json

from mlflow import MlflowClient
from rich.console import Console

from stillhouse.losses import LOSSES
from stillhouse.pipeline import repeat, verbs
from stillhouse.rankers import load_ranker
from stillhouse.rankers.card import body_of
from stillhouse.recipe import make_recipe
from tests.unit.pipeline.test_baselines import tree


def test_the_card_names_data_teacher_and_dev_figure(
    collection_folder, backbone, tmp_path, mlflow_template, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    uri = mlflow_template(tmp_path)
    toy = tree(collection_folder, backbone)
    toy |= {"teachers": {"a": toy["teachers"]["a"]}, "teacher_selection": "mean", "baselines": {}}
    toy |= {"store": {"path": str(tmp_path / "scores"), "actors": 0}}
    toy["tracking"] = {"uri": uri, "experiment": "toy"}
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

    # The record alone gives it again: the teacher's scores come from the store, the student is trained anew.
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    (student,) = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert student.data.tags["stillhouse.stores"] == store
    assert student.data.tags["stillhouse.paper"] == LOSSES["kl"].paper
    found = repeat(student.info.run_id, uri, console=Console(quiet=True))
    assert (found.recorded, found.repeated, found.tolerance) == (done["nDCG@10"], done["nDCG@10"], 0.0)
