from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from stillhouse.recipe import get_key
from stillhouse.search import make_space
from stillhouse.search.beginning import enqueue
from stillhouse.search.record import StudyFolder, study_id
from stillhouse.search.recorder import Recorder
from stillhouse.search.searcher import StudySearch, nested_metrics
from stillhouse.tracking import NullTracker
from tests.contracts.search_recipe import search_recipe

TEMPERATURE = "stages.distill.loss.temperature"


def drawn(root: Path, most: float) -> dict[str, Any]:
    """The first trial of a search from 0.5 to `most`, which starts at the recipe's own value."""
    recipe = search_recipe()
    start = [{TEMPERATURE: get_key(recipe, TEMPERATURE)}]
    space = make_space({"space": {TEMPERATURE: {"float": [0.5, most]}}, "start": start, "trials": 2})
    folder = StudyFolder(root, study_id(recipe, space, {}))
    folder.path.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(folder, NullTracker(), None, recipe, space, root, lambda trial: None)
    storage = optuna.storages.InMemoryStorage()
    searcher = StudySearch(space, recipe, recorder, storage, root, context={}, deadline=None)
    enqueue(searcher.study, space, recipe)
    suggested = searcher.suggest("one")
    assert isinstance(suggested, dict)
    return dict(suggested["trial"])


def test_two_searches_that_draw_the_same_values_train_apart(tmp_path: Path) -> None:
    one, other = drawn(tmp_path, 2.0), drawn(tmp_path, 3.0)
    assert one["values"] == other["values"] == {TEMPERATURE: 1.0}
    assert one["key"] != other["key"]
    assert drawn(tmp_path / "again", 2.0)["key"] == one["key"]


def test_numbers_that_tune_adds_are_no_metrics() -> None:
    result = {
        "nDCG@10": 0.5,
        "train/loss": 2,
        "step": 20,
        "done": True,
        "training_iteration": 2,
        "time_total_s": 3.0,
        "timestamp": 1.0,
        "pid": 7,
        "hostname": "here",
        "config/trial/number": 3,
    }
    assert nested_metrics(result) == {"nDCG@10": 0.5, "train/loss": 2.0}
