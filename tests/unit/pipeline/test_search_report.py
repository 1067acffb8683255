"""A search that has ended is confirmed, reported in the output folder and attached to its run in MLflow."""

from __future__ import annotations

import json

from rich.console import Console

from stillhouse.pipeline.context import Context
from stillhouse.pipeline.recording import recording
from stillhouse.pipeline.run import prepare, teach
from stillhouse.pipeline.search_report import report_search
from stillhouse.recipe import make_recipe, override
from stillhouse.search import importance
from stillhouse.search.question import write_question
from stillhouse.search.record import Report, StudyFolder, StudyResult, Trial
from stillhouse.search.space import load_space
from stillhouse.tracking.mlflow_tracker import open_client
from tests.unit.pipeline.test_baselines import tree
from tests.unit.pipeline.test_confirming import RATE, SPACE


def test_the_report_is_on_disk_and_in_mlflow(collection_folder, backbone, tmp_path, mlflow_template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    (tmp_path / "space.yaml").write_text(SPACE)
    toy = tree(collection_folder, backbone)
    toy |= {"teachers": {"a": toy["teachers"]["a"]}, "teacher_selection": "mean", "baselines": {}}
    toy |= {"search": {"space": "space.yaml", "confirm_seeds": 1}}
    recipe = make_recipe(toy | {"tracking": {"uri": mlflow_template(tmp_path), "experiment": "toy"}})
    trials = [
        Trial(number, f"k{number}", {RATE: 10.0**-number}, "FINISHED", [Report(1, 1.0, {"nDCG@10": value})], (value,))
        for number, value in ((2, 0.4), (3, 0.5), (4, 0.3))
    ]
    folder = StudyFolder(tmp_path / "home", "abc")
    write_question(folder.path, recipe, load_space("space.yaml"))
    for trial in trials:
        folder.write_trial(trial)
    study = StudyResult(trials[1], trials, 5.0, [trials[1]], "abc")
    with Context(recipe, Console(quiet=True), root=tmp_path / "home") as context, recording(context) as recorder:
        prepare(context)
        scores = teach(context, recipe)[1]
        report_search(context, recorder, override(recipe, study.best.values), study, scores)
        recorder.files()
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert found["best"]["number"] == 3
    assert found["confirmation"]["seeds"] == [0]
    assert json.loads((folder.path / "confirmation.json").read_text()) == found["confirmation"]
    assert found["provenance"]["Data"]["score stores"] == scores.stores[0]
    client = open_client(recipe.tracking.uri)
    runs = {
        run.info.run_name: run.info for run in client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    }
    assert {"toy", "best values, seed 0", "default values, seed 0"} <= runs.keys()
    parent = runs["toy"].run_id
    kept = {one.path for one in client.list_artifacts(parent, "search")}
    assert kept == {f"search/{name}" for name in ("search.html", "search.md", "search.json", "search_files")}
    pictures = {one.path for one in client.list_artifacts(parent, "search/search_files")}
    assert "search/search_files/history.svg" in pictures
    assert not [one.path for one in client.list_artifacts(parent) if one.path.startswith("search.")]
