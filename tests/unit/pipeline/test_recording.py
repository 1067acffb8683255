"""What a training that is no trial leaves in MLflow: the same as a trial."""

from __future__ import annotations

from mlflow import MlflowClient
from rich.console import Console

from stillhouse.pipeline.context import Context
from stillhouse.pipeline.recording import recording
from stillhouse.pipeline.run import prepare, train_students
from tests.contracts.recorded_recipe import recorded_recipe


def test_a_student_s_diagnostics_and_dev_measures_are_recorded(
    collection_folder, backbone, tmp_path, mlflow_template, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    uri = mlflow_template(tmp_path)
    recipe = recorded_recipe(collection_folder, backbone, uri, retrain={"num_workers": 1})
    with Context(recipe, Console(quiet=True), root=tmp_path / "work") as context, recording(context) as recorder:
        prepare(context)
        ((name, model),) = train_students(context, recipe, None).items()
        recorder.training(name, model)
    client, run = MlflowClient(uri), recorder.children[name]

    def history(metric: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run, metric)]

    reports = model.evaluations()
    # 12 queries in steps of 6: two steps, a dev evaluation after each.
    assert [report["step"] for report in reports] == [1, 2]
    assert history("dev/nDCG_at_10") == [(report["step"], report["nDCG@10"]) for report in reports]
    for name in ("positive_score", "negative_score", "score_range", "normalised_margin", "score_variance"):
        assert history(f"train/{name}") == [(report["step"], report[f"train/{name}"]) for report in reports], name
    # What the curve has of each step stands there once.
    assert history("train/loss") == [(int(point["step"]), point["loss"]) for point in model.curve()]
