"""What a search leaves: the best trials' models on disk and in MLflow, the best one registered, a trial repeated.

Trials run in this process, by the objective and the recorder of a real study.
"""

from __future__ import annotations

import io
import json
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console

from stillhouse.cli import main
from stillhouse.errors import RecipeError
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.keeping import keep_best
from stillhouse.pipeline.models import make_job
from stillhouse.pipeline.provenance import about
from stillhouse.pipeline.recording import recording
from stillhouse.pipeline.registering import register_best_trial
from stillhouse.pipeline.repeating import repeat
from stillhouse.pipeline.run import prepare
from stillhouse.pipeline.searching import StudentObjective
from stillhouse.rankers import load_ranker
from stillhouse.recipe import Recipe, override
from stillhouse.search import SearchSpace, make_space
from stillhouse.search.keeping import checkpoints_of, ranker_of
from stillhouse.search.record import Report, StudyFolder, StudyResult, Trial, best_of, trial_key
from stillhouse.search.recorder import Recorder
from tests.contracts.recorded_recipe import recorded_recipe

RATE = "stages.label.optimizer.learning_rate"
RATES = (1e-4, 0.05, 1e-3)


@dataclass(frozen=True)
class World:
    """A study of three trials that has ended, recorded in a real MLflow store."""

    root: Path
    recipe: Recipe
    space: SearchSpace
    study: StudyResult
    folder: StudyFolder
    client: MlflowClient

    def context(self, **changes: Any) -> Context:
        return Context(override(self.recipe, changes), Console(file=io.StringIO()), root=self.root)

    def files(self, trial: Trial) -> set[str]:
        top = {one.path for one in self.client.list_artifacts(trial.run_id)}
        return top | {one.path for one in self.client.list_artifacts(trial.run_id, "ranker")}

    def best(self, count: int) -> list[Trial]:
        return sorted(self.study.trials, key=lambda trial: (-trial.metric, trial.number))[:count]


@pytest.fixture(scope="module")
def world(collection_folder, backbone, tmp_path_factory, mlflow_template) -> World:
    root = tmp_path_factory.mktemp("study")
    recipe = recorded_recipe(collection_folder, backbone, mlflow_template(root), search={"keep_models": 2})
    space = make_space({"space": {RATE: {"choice": list(RATES)}}, "trials": 3, "scheduler": "none"})
    folder = StudyFolder(root, "study")
    with Context(recipe, Console(quiet=True), root=root) as context, recording(context) as recorder:
        prepare(context)
        recorder.start()
        recorder.teacher(None)
        objective = StudentObjective(make_job(context, recipe.student, recipe.stages), keep_ranker=True)
        told = about(context, None)
        trials = Recorder(folder, recorder.tracker, recorder.parent, recipe, space, root, lambda trial: None, 2, told)
        for number, rate in enumerate(RATES):
            run_trial(trials, objective, Trial(number, trial_key(recipe, {RATE: rate}, {}), {RATE: rate}))
        trials.finish()
    found = folder.trials()
    study = StudyResult(best_of(found, space), found, 1.0, [], "study")
    return World(root, recipe, space, study, folder, MlflowClient(recipe.tracking.uri))


def run_trial(trials: Recorder, objective: StudentObjective, trial: Trial) -> None:
    trials.start(trial)
    reports: list[Report] = []
    recipe = override(trials.recipe, trial.values)
    checkpoints = checkpoints_of(trials.root, trial.key)
    objective(recipe, trial.key, checkpoints, lambda metrics, step: reports.append(Report(step, 1e9 + step, metrics)))
    assert ranker_of(trials.root, trial.key) is not None
    trials.report(trial, reports)
    trial.state = "FINISHED"
    trials.end(trial)


def test_only_the_best_trials_keep_their_folders(world: World) -> None:
    best = {trial.key for trial in world.best(2)}
    assert len({trial.metric for trial in world.study.trials}) > 1
    for trial in world.study.trials:
        assert checkpoints_of(world.root, trial.key).is_dir() == (trial.key in best)
        assert (world.root / "trials" / trial.key / "recipe.yaml").is_file()
    # All of them have ended for good: what was measured is there.
    assert [trial.state for trial in world.folder.trials()] == ["FINISHED"] * 3
    assert all(len(trial.reports) == 2 for trial in world.folder.trials())


def test_the_per_query_measures_are_those_of_the_ranker_that_is_kept(world: World) -> None:
    for trial in world.best(2):
        ranker = ranker_of(world.root, trial.key)
        assert ranker is not None
        kept = json.loads((ranker / "dev_per_query.json").read_text())
        values = kept["measures"]["nDCG@10"]
        assert len(values) == 8
        assert sum(values.values()) / 8 == pytest.approx(trial.metric)
        assert kept["step"] == trial.best_report(world.space).step


def test_trials_and_search_say_where_they_come_from(world: World) -> None:
    for trial in world.study.trials:
        run = world.client.get_run(trial.run_id)
        parent = world.client.get_run(run.data.tags["mlflow.parentRunId"])
        for one in (run, parent):
            with world.context() as context:
                assert one.data.tags["stillhouse.collection"] == context.collection.digest
                keys = [context.candidates(split).key for split in ("train", "dev")]
            assert one.data.tags["stillhouse.candidates"] == "-".join(keys)
            assert one.data.tags["stillhouse.stores"] == "none"
            assert "Menon et al. 2022, Eq. 1" in one.data.tags["stillhouse.paper"]
            assert one.data.tags["stillhouse.git.dirty"] in ("true", "false")
            assert len(one.data.tags["mlflow.source.git.commit"]) == 40
            inputs = {each.tags[0].value: each.dataset for each in one.inputs.dataset_inputs}
            assert set(inputs) == {"train", "dev", "test"}
            assert inputs["dev"].name == world.recipe.collection.dev
            assert inputs["dev"].digest == f"{one.data.tags['stillhouse.collection']}-dev"
            facts = json.loads(inputs["dev"].profile)
            assert (facts["queries"], facts["documents"], facts["judgements"]) == (8, 60, 8)
        assert float(run.data.params[RATE]) == trial.values[RATE]
        assert run.data.params["stages.label.loss.name"] == "contrastive"


def test_the_models_of_the_best_go_to_their_runs_once(world: World) -> None:
    first, second = world.best(2)
    with world.context() as context:
        keep_best(context, world.study, world.space, recorder_of(context))
        assert world.client.get_run(first.run_id).data.tags["stillhouse.model"] == "ranker"
        for trial in (first, second):
            assert {"figures", "dev_per_query.json", "ranker", "ranker/model.safetensors"} <= world.files(trial)
        for trial in world.best(3)[2:]:
            assert "ranker" not in world.files(trial)
        uploaded = world.root.glob(f"mlartifacts/**/{first.run_id}/artifacts/ranker/model.safetensors")
        (file,) = uploaded
        # A copy keeps the time of its content.
        before = file.stat().st_ctime_ns
        keep_best(context, world.study, world.space, recorder_of(context))
        assert file.stat().st_ctime_ns == before, "what is there is not sent again"
        # Killed before it was noted: sent again, and nothing is there twice.
        files = world.files(first)
        (world.root / "trials" / first.key / "kept.json").unlink()
        keep_best(context, world.study, world.space, recorder_of(context))
        assert file.stat().st_ctime_ns > before
        assert world.files(first) == files


def test_what_does_not_fit_the_budget_is_named(world: World) -> None:
    first, second = world.best(2)
    size = sum(path.stat().st_size for path in ranker_of(world.root, first.key).rglob("*") if path.is_file())
    # Room for one and a half.
    with world.context(**{"search.keep_models_mib": 1.5 * size / 2**20}) as context:
        keep_best(context, world.study, world.space, recorder_of(context))
        said = " ".join(context.console.file.getvalue().split())
    assert f"trial {second.number}: its model is not in MLflow:" in said
    assert "left of search.keep_models_mib" in world.client.get_run(second.run_id).data.tags["stillhouse.model"]
    assert world.client.get_run(first.run_id).data.tags["stillhouse.model"] == "ranker"


def test_the_best_student_is_registered_once_and_scores_by_mlflow(world: World, tmp_path, monkeypatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.recipe.tracking.uri)
    with world.context() as context:
        found = register_best_trial(context, world.study)
        assert register_best_trial(context, world.study) == found
        split, candidates = context.collection.splits["dev"], context.candidates("dev")
        queries = [split.queries.text(row) for row in (0, 1)]
        docs = [context.collection.docs.texts(candidates.rows(row)[:count].tolist()) for row, count in ((0, 3), (1, 2))]
    assert found is not None
    assert found.uri == "models:/toy/1"
    version = world.client.get_model_version("toy", "1")
    best = world.study.best
    assert version.run_id == best.run_id
    assert version.tags["stillhouse.study"] == "study"
    assert version.tags["stillhouse.trial"] == str(best.number)
    assert float(version.tags["stillhouse.dev"]) == pytest.approx(best.metric, abs=1e-6)
    assert str(world.client.get_model_version_by_alias("toy", "best").version) == "1"

    ours = load_ranker(ranker_of(world.root, best.key)).score(queries, docs)
    assert torch.equal(load_ranker("models:/toy@best").score(queries, docs), ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pyfunc.load_model("models:/toy/1")
    pairs = [(0, 0), (1, 1), (0, 2), (1, 0), (0, 1)]
    rows = pd.DataFrame([{"query": queries[q], "document": docs[q][d]} for q, d in pairs])
    assert model.predict(rows).tolist() == [ours[q, d].item() for q, d in pairs]
    info = model.metadata
    assert [(column.name, str(column.type)) for column in info.signature.inputs] == [
        ("query", "DataType.string"),
        ("document", "DataType.string"),
    ]
    example = info.load_input_example(str(Path(model._model_impl.context.artifacts["ranker"]).parents[1]))
    assert list(example.columns) == ["query", "document"]
    assert example["query"].tolist() == [queries[0]] * 2
    stored = [path for path in world.root.glob("mlartifacts/**/model/**/*") if path.is_file()]
    assert stored
    assert not [path for path in stored if path.suffix in (".pkl", ".pickle", ".bin", ".pt")]


def test_another_ranker_is_another_version(world: World) -> None:
    with world.context() as context:
        other = replace(world.study, best=world.best(2)[1])
        found = register_best_trial(context, other)
        assert found is not None
        assert found.version == "2"
        first = register_best_trial(context, world.study)
        assert first is not None
        assert first.version == "1"
    assert str(world.client.get_model_version_by_alias("toy", "best").version) == "1"


def test_a_trial_is_repeated_from_its_record(world: World, tmp_path: Path) -> None:
    # Of the worst: nothing of it but its record is left.
    trial = world.best(3)[-1]
    console = Console(file=io.StringIO(), width=200)
    found = repeat(trial.run_id, world.recipe.tracking.uri, console=console, root=tmp_path / "fresh")
    assert found.recorded == trial.metric
    assert found.repeated == trial.metric
    assert found.same
    assert (
        f"recorded {trial.metric:.6f}, repeated {trial.metric:.6f}, difference 0: the same" in console.file.getvalue()
    )
    assert not list((tmp_path / "fresh").glob("repeat-*"))


def test_a_trial_of_two_seeds_is_repeated_as_their_mean(world: World, tmp_path: Path) -> None:
    trial, curves = world.best(3)[-1], []
    with world.context() as context:
        job = make_job(context, world.recipe.student, world.recipe.stages)
    for seed in (0, 1):
        curve: list[tuple[int, float]] = []
        recipe = override(world.recipe, trial.values | {"seed": seed})
        StudentObjective(job)(
            recipe, "k", tmp_path / str(seed), lambda got, step, into=curve: into.append((step, got["nDCG@10"]))
        )
        curves.append(curve)
    means = [(step, (one + other) / 2) for (step, one), (_, other) in zip(*curves, strict=True)]
    assert curves[0] != curves[1]
    run = world.client.get_run(trial.run_id)
    other = world.client.create_run(run.info.experiment_id, tags=run.data.tags | {"stillhouse.seeds": "2"}).info.run_id
    world.client.log_artifact(other, str(world.root / "trials" / trial.key / "recipe.yaml"))
    for step, value in means:
        world.client.log_metric(other, "dev/nDCG_at_10", value, step=step)
    found = repeat(other, world.recipe.tracking.uri, console=Console(quiet=True), root=world.root)
    assert found.recorded == max(value for _, value in means)
    assert found.repeated == pytest.approx(found.recorded, abs=1e-12)


def test_another_value_is_no_repetition(world: World, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLHOUSE_HOME", str(world.root))
    best, worst = world.best(1)[0], world.best(3)[-1]
    uri = world.recipe.tracking.uri
    # The record of the worst says what the best measured.
    run = world.client.create_run(world.client.get_run(worst.run_id).info.experiment_id, run_name="changed")
    for key in ("mlflow.parentRunId", "stillhouse.collection", "stillhouse.candidates"):
        world.client.set_tag(run.info.run_id, key, world.client.get_run(worst.run_id).data.tags[key])
    world.client.log_artifact(run.info.run_id, str(world.root / "trials" / worst.key / "recipe.yaml"))
    for report in best.reports:
        value = report.metrics["nDCG@10"]
        world.client.log_metric(run.info.run_id, "dev/nDCG_at_10", value, step=report.step)
    assert main(["repeat", run.info.run_id, "--tracking", uri, "--tolerance", "0"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"recorded {best.metric:.6f}, repeated {worst.metric:.6f}" in said
    assert "DIFFERENT" in said
    assert "threads differ: not recorded" in said
    assert main(["repeat", run.info.run_id, "--tracking-uri", uri, "--tolerance", "1"]) == 0


def test_other_data_is_one_line(world: World, tmp_path: Path) -> None:
    trial = world.best(1)[0]
    folder = Path(world.recipe.collection.train)
    client, uri = world.client, world.recipe.tracking.uri
    moved = tmp_path / "data"
    shutil.copytree(folder, moved)
    with (moved / "corpus.jsonl").open("a") as stream:
        stream.write('{"doc_id": "more", "title": "", "text": "one more document"}\n')
    run = client.get_run(trial.run_id)
    copy = client.create_run(run.info.experiment_id, tags=run.data.tags).info.run_id
    recipe = tmp_path / "recipe.yaml"
    text = (world.root / "trials" / trial.key / "recipe.yaml").read_text()
    recipe.write_text(text.replace(str(folder), str(moved)))
    client.log_artifact(copy, str(recipe))
    client.log_metric(copy, "dev/nDCG_at_10", 0.5, step=1)
    with pytest.raises(RecipeError, match=r"its collection had digest \w+, that of .*data here has \w+; repeat it"):
        repeat(copy, uri, console=Console(quiet=True), root=tmp_path / "fresh")


def test_a_whole_run_names_its_trainings(world: World) -> None:
    trial = world.best(1)[0]
    parent = world.client.get_run(trial.run_id).data.tags["mlflow.parentRunId"]
    with pytest.raises(RecipeError, match=rf"not the training of a student; .*trial 00{trial.number} {trial.run_id}"):
        repeat(parent, world.recipe.tracking.uri, console=Console(quiet=True))
    with pytest.raises(RecipeError, match="not an id of an MLflow run"):
        repeat("demo", world.recipe.tracking.uri, console=Console(quiet=True))


def recorder_of(context: Context) -> Any:
    from stillhouse.tracking import open_tracker

    return open_tracker(context.recipe.tracking)
