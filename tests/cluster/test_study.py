"""Studies with a real Ray, a real Tune, Optuna and MLflow, over an objective whose answer is known."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import ray
from optuna.trial import TrialState

from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe
from stillhouse.search.placement import room_for
from stillhouse.search.record import StudyResult
from stillhouse.tracking import MlflowTracker, NullTracker
from stillhouse.tracking.mlflow_tracker import open_client

DRIVER = Path(__file__).with_name("study_driver.py")
_spec = importlib.util.spec_from_file_location("study_driver", DRIVER)
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
sys.modules["study_driver"] = toy
_spec.loader.exec_module(toy)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    source = str(Path(__file__).parents[2] / "platform")
    environment = {"PYTHONPATH": os.pathsep.join([source, str(DRIVER.parent)]), "OMP_NUM_THREADS": "1"}
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", runtime_env={"env_vars": environment})
    ray.cloudpickle.register_pickle_by_value(toy)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    if started:
        ray.shutdown()


def stored_trials(root: Path, study: str = "*") -> list[optuna.trial.FrozenTrial]:
    (database,) = root.glob(f"studies/{study}/optuna.db")
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    storage.remove_session()
    return trials


def children(uri: str) -> list:
    client = open_client(uri)
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if run.info.run_name == "search"]
    found = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(found) == len(runs) - 1
    return found


def points(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in open_client(uri).get_metric_history(run_id, name)]


def stops_early(qualities: list[float], reduction_factor: float) -> list[bool]:
    """Successive halving at the first rung, trial after trial; there the curves are in the order of their qualities.

    A trial is stopped if it is below the (1 - 1/reduction_factor) quantile, linearly interpolated, of those before
    it; the first has nobody to be compared with.
    """
    stopped = [False]
    for number in range(1, len(qualities)):
        ranked = sorted(qualities[:number])
        place = (1 - 1 / reduction_factor) * (number - 1)
        low = int(place)
        bound = ranked[low] + (place - low) * (ranked[min(low + 1, number - 1)] - ranked[low])
        stopped.append(qualities[number] < bound)
    return stopped


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Callable[[Path], str]):
    """A study of 8 trials, one after the other, with early stopping."""
    root = tmp_path_factory.mktemp("early")
    uri = mlflow_template(root)
    space = toy.space(trials=8, scheduler={"name": "asha", "grace": 1, "reduction_factor": 2})
    result = toy.search(root, MlflowTracker(uri, "toy"), space, toy.Curve(), at_a_time=1)
    return root, uri, space, result


def test_best_is_the_best_and_reports_are_the_curve(early) -> None:
    _, _, _, result = early
    qualities = {trial.number: toy.quality(trial.values[toy.TEMPERATURE]) for trial in result.trials}
    finished = [trial for trial in result.trials if trial.state == "FINISHED"]
    assert result.best.number == max((trial.number for trial in finished), key=qualities.__getitem__)
    assert result.best.metric == pytest.approx(qualities[result.best.number] * 31 / 32)
    for trial in result.trials:
        temperature = trial.values[toy.TEMPERATURE]
        expected = [toy.curve(temperature, number + 1) for number in range(len(trial.reports))]
        assert [report.metrics["nDCG@10"] for report in trial.reports] == pytest.approx(expected)
        assert [report.step for report in trial.reports] == [10 * (n + 1) for n in range(len(trial.reports))]


def test_halving_stops_whom_it_should(early) -> None:
    _, _, _, result = early
    qualities = [toy.quality(trial.values[toy.TEMPERATURE]) for trial in result.trials]
    expected = stops_early(qualities, 2)
    assert any(expected)
    assert not all(expected)
    assert [len(trial.reports) == 1 for trial in result.trials] == expected
    assert all(trial.state == "PRUNED" for trial, stopped in zip(result.trials, expected, strict=True) if stopped)


def test_optuna_is_told_pruned_with_the_curve(early) -> None:
    root, _, _, result = early
    stored = {trial.number: trial for trial in stored_trials(root)}
    assert set(stored) == {trial.number for trial in result.trials}
    for trial in result.trials:
        told = stored[trial.number]
        assert told.state == {"PRUNED": TrialState.PRUNED, "FINISHED": TrialState.COMPLETE}[trial.state]
        curve = {number + 1: report.metrics["nDCG@10"] for number, report in enumerate(trial.reports)}
        assert told.intermediate_values == pytest.approx(curve)
        assert told.params == trial.values
    pruned = next(trial for trial in result.trials if trial.state == "PRUNED")
    assert stored[pruned.number].value == pytest.approx(pruned.metric)


def test_mlflow_holds_one_child_per_trial(early) -> None:
    _, uri, _, result = early
    runs = {run.info.run_id: run for run in children(uri)}
    assert set(runs) == {trial.run_id for trial in result.trials}
    for trial in result.trials:
        run = runs[trial.run_id]
        assert run.info.status == "FINISHED"
        assert run.data.tags["trial_state"] == trial.state
        assert float(run.data.params[toy.TEMPERATURE]) == trial.values[toy.TEMPERATURE]
        assert run.data.params["student.ranker"] == "dual_encoder"
        expected = [(report.step, report.metrics["nDCG@10"]) for report in trial.reports]
        assert points(uri, trial.run_id, "dev/nDCG_at_10") == expected
        assert len(points(uri, trial.run_id, "train/loss")) == len(trial.reports)


def test_a_finished_study_is_read_from_disk(early) -> None:
    root, uri, space, result = early

    def fails(*_: object) -> None:
        raise AssertionError("a trial was run again")

    again = toy.search(root, MlflowTracker(uri, "toy"), space, fails)
    assert again == result
    assert len(children(uri)) == 8


def test_a_finished_study_is_recorded_where_it_is_missing(early, tmp_path: Path, mlflow_template) -> None:
    root, _, space, result = early
    uri = mlflow_template(tmp_path)
    toy.search(root, MlflowTracker(uri, "toy"), space, toy.Curve())
    assert len(children(uri)) == 8
    curves = sorted(points(uri, run.info.run_id, "dev/nDCG_at_10") for run in children(uri))
    assert curves == sorted(
        [(report.step, report.metrics["nDCG@10"]) for report in trial.reports] for trial in result.trials
    )


def test_more_trials_need_resume(early) -> None:
    root, uri, space, _ = early
    larger = space.model_copy(update={"trials": 9})
    with pytest.raises(SearchError, match=r"8 of 9 trials ended; --resume goes on"):
        toy.search(root, MlflowTracker(uri, "toy"), larger, toy.Curve())


def test_killed_driver_goes_on_where_it_was(tmp_path: Path, mlflow_template: Callable[[Path], str]) -> None:
    uri = mlflow_template(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "platform"), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen([sys.executable, DRIVER, tmp_path, uri], stdout=log, stderr=log, env=environment)
    wait_for(lambda: len(list(tmp_path.glob("studies/*/trials/*.json"))) >= 2 and going_on(tmp_path), driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    kept = {path: what_was_measured(path) for path in tmp_path.glob("studies/*/trials/*.json")}
    left = [trial for trial in stored_trials(tmp_path) if trial.state == TrialState.RUNNING]
    assert 0 < len(kept) < 6
    assert left

    tracker = MlflowTracker(uri, "toy")
    with pytest.raises(SearchError, match="unfinished"):
        toy.search(tmp_path, tracker, toy.space(), toy.Curve())
    result = toy.search(tmp_path, tracker, toy.space(), toy.Curve(), at_a_time=1, resume=True)

    assert [trial.number for trial in result.trials] == list(range(6))
    assert all(what_was_measured(path) == before for path, before in kept.items())
    assert all(trial.state == TrialState.COMPLETE for trial in stored_trials(tmp_path))
    assert len(stored_trials(tmp_path)) == 6
    starts = [starts_of(tmp_path, trial.key) for trial in result.trials]
    assert all(one[0] == 0 and len(one) <= 2 for one in starts)
    assert any(len(one) == 2 and one[1] > 0 for one in starts)
    assert all([report.step for report in trial.reports] == [10, 20, 30, 40, 50] for trial in result.trials)
    runs = children(uri)
    assert len(runs) == 6
    assert {run.info.run_id for run in runs} == {trial.run_id for trial in result.trials}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert [step for step, _ in points(uri, run.info.run_id, "dev/nDCG_at_10")] == [10, 20, 30, 40, 50]
    # The sampler too went on as if nothing had been: the last draws of six are no random ones.
    undisturbed = toy.search(tmp_path / "undisturbed", NullTracker(), toy.space(), toy.Curve(), at_a_time=1)
    assert [trial.values for trial in result.trials] == [trial.values for trial in undisturbed.trials]
    assert [trial.metrics for trial in result.trials] == [trial.metrics for trial in undisturbed.trials]


def what_was_measured(path: Path) -> dict:
    """A trial's file without where it is recorded, which may be added later."""
    return {name: value for name, value in json.loads(path.read_text()).items() if "run" not in name}


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, "the driver ended before it was killed"
        assert time.monotonic() < until, "the driver did not come so far"
        time.sleep(0.05)


def going_on(root: Path) -> bool:
    """Whether a trial that has not ended has reported."""
    ended = {path.stem for path in root.glob("studies/*/trials/*.json")}
    return any(path.stat().st_size and path.parent.name not in ended for path in root.glob("trials/*/reports.jsonl"))


def starts_of(root: Path, key: str) -> list[int]:
    return [int(line) for line in (root / "trials" / key / "checkpoints" / "starts").read_text().split()]


class Trouble:
    """Fails with one negative, dies once with three, is well with seven."""

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        negatives = recipe.stages["distill"].groups.num_negatives
        if negatives == 1:
            raise ValueError("one negative is not enough\nand a second line")
        report({"nDCG@10": negatives / 10, "latency_ms": float(negatives)}, 1)
        marker = checkpoint_dir.parent / "died"
        if negatives == 3 and not marker.exists():
            marker.touch()
            os._exit(1)
        report({"nDCG@10": negatives / 8, "latency_ms": float(negatives)}, 2)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A grid of three trials with two objectives: one fails, the process of one dies."""
    space = toy.space(
        space={toy.NEGATIVES: {"choice": [1, 3, 7]}},
        sampler="grid",
        metric=["nDCG@10", "latency_ms"],
        mode=["max", "min"],
    )
    return toy.search(tmp_path_factory.mktemp("trouble"), NullTracker(), space, Trouble())


def test_grid_takes_each_point_once(trouble: StudyResult) -> None:
    assert sorted(trial.values[toy.NEGATIVES] for trial in trouble.trials) == [1, 3, 7]


def test_failing_trial_is_recorded_and_the_study_goes_on(trouble: StudyResult) -> None:
    by_negatives = {trial.values[toy.NEGATIVES]: trial for trial in trouble.trials}
    assert by_negatives[1].state == "FAILED"
    assert by_negatives[1].error == "ValueError: one negative is not enough"
    assert by_negatives[7].state == "FINISHED"


def test_dead_process_starts_again(trouble: StudyResult) -> None:
    by_negatives = {trial.values[toy.NEGATIVES]: trial for trial in trouble.trials}
    assert by_negatives[3].state == "FINISHED"
    assert [report.step for report in by_negatives[3].reports] == [1, 2]


def test_front_of_two_objectives(trouble: StudyResult) -> None:
    # 7 negatives: 7/8 at 7 ms; 3 negatives: 3/8 at 3 ms; neither beats the other in both.
    assert [trial.metrics for trial in trouble.front] == [(7 / 8, 7.0), (3 / 8, 3.0)]


def test_only_the_best_trials_keep_their_checkpoints_and_none_runs_again(tmp_path: Path) -> None:
    space = toy.space(trials=4, scheduler={"name": "asha", "grace": 1, "reduction_factor": 2})
    result = toy.search(tmp_path, NullTracker(), space, toy.Curve(), keep_models=1)
    kept = {path.parent.name for path in tmp_path.glob("trials/*/checkpoints")}
    assert kept == {result.best.key}
    assert {trial.key for trial in result.trials} == {path.name for path in tmp_path.glob("trials/*")}

    def fails(*_: object) -> None:
        raise AssertionError("a trial was run again")

    assert toy.search(tmp_path, NullTracker(), space, fails, resume=True, keep_models=1) == result


class Seeded:
    """A measure that is the seed, to see what is averaged; `step` evaluations each."""

    def __call__(
        self, recipe: Recipe, trial_key: str, checkpoint_dir: Path, report: Callable[[dict[str, float], int], None]
    ) -> None:
        for step in (1, 2):
            report({"nDCG@10": float(step * (recipe.seed + 1))}, step)


def test_seeds_are_averaged_and_an_earlier_study_is_learnt_from(early) -> None:
    root, _, _, result = early
    (name,) = (path.name for path in root.glob("studies/*"))
    again = toy.space(trials=2, seeds=3, warm_start=name)
    both = toy.search(root, NullTracker(), again, Seeded())
    assert len(both.trials) == 2
    for trial in both.trials:
        # seeds 0, 1, 2: 1, 2, 3 at the first evaluation, 2, 4, 6 at the second; spread 1 and 2
        expected = [{"nDCG@10": 2.0, "spread/nDCG@10": 1.0}, {"nDCG@10": 4.0, "spread/nDCG@10": 2.0}]
        assert [report.metrics for report in trial.reports] == expected
    (other,) = (path.name for path in root.glob("studies/*") if path.name != name)
    learnt = [trial for trial in stored_trials(root, other) if "warm_start" in trial.user_attrs]
    finished = {trial.key: trial for trial in result.trials if trial.state == "FINISHED"}
    assert {trial.user_attrs["trial"]: trial.value for trial in learnt} == {
        key: trial.metric for key, trial in finished.items()
    }
    assert len(stored_trials(root, other)) == len(learnt) + 2


def test_nothing_to_learn_from_says_what_there_is(early) -> None:
    root, _, _, _ = early
    with pytest.raises(SearchError, match=r"warm_start nowhere: no finished trial there .* studies under"):
        toy.search(root, NullTracker(), toy.space(trials=2, warm_start="nowhere"), Seeded())


def test_no_room_says_what_is_missing() -> None:
    assert room_for({"CPU": 1.0}) == 2
    with pytest.raises(
        SearchError, match=r"a trial needs 5 CPU and 1 GPU on one node, but the nodes have 2 CPU, 0 GPU"
    ):
        room_for({"CPU": 5.0, "GPU": 1.0}, wait_s=0.0)
