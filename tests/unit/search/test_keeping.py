"""Which trials' models are kept, and what a trial's own recipe has to say to be repeated."""

from __future__ import annotations

from pathlib import Path

from stillhouse.recipe import override
from stillhouse.search.keeping import best_finished, checkpoints_of, ranker_of, remove_others
from stillhouse.search.recorder import repeatable
from tests.contracts.search_recipe import search_recipe
from tests.unit.search.test_record import SPACE, TWO, trial


def test_the_best_are_finished_ones_and_the_earlier_of_equals() -> None:
    trials = [trial(0, 0.3), trial(1, 0.9, state="PRUNED"), trial(2, 0.4), trial(3, 0.4), trial(4, state="FAILED")]
    assert [one.number for one in best_finished(trials, SPACE, 2)] == [2, 3]
    lowest = SPACE.model_copy(update={"mode": "min"})
    assert [one.number for one in best_finished(trials, lowest, 9)] == [0, 2, 3]
    assert best_finished(trials, SPACE, 0) == []


def test_of_two_objectives_the_front_comes_first() -> None:
    trials = [trial(0, 0.5, 10), trial(1, 0.49, 12), trial(2, 0.3, 5), trial(3, 0.29, 6)]
    # 0 and 2 are beaten by none; 1 has a better measure than 2, but 0 beats it in both.
    assert [one.number for one in best_finished(trials, TWO, 3)] == [0, 2, 1]


def test_the_checkpoints_of_the_others_are_removed_and_nothing_else(tmp_path: Path) -> None:
    trials = [trial(0, 0.3), trial(1, 0.9, state="PRUNED"), trial(2, 0.4), trial(3, state="RUNNING")]
    for one in trials:
        folder = checkpoints_of(tmp_path, one.key)
        (folder / "ranker").mkdir(parents=True)
        (folder.parent / "reports.jsonl").touch()
    remove_others(trials, SPACE, 1, tmp_path)
    assert [one.number for one in trials if ranker_of(tmp_path, one.key)] == [2, 3]
    assert len(list(tmp_path.glob("trials/*/reports.jsonl"))) == 4


def test_a_drawn_seed_leaves_data_and_teachers_as_they_were() -> None:
    base = override(search_recipe(), {"seed": 4, "teachers.own": {"ranker": "cross_encoder", "backbone": "none"}})
    assert repeatable(base, base) is base
    alone = repeatable(override(base, {"seed": 9}), base)
    assert (alone.seed, alone.collection.seed, alone.teachers["own"].seed) == (9, 4, 4)
    pinned = override(base, {"collection.seed": 1, "teachers.own.seed": 2})
    alone = repeatable(override(pinned, {"seed": 9}), pinned)
    assert (alone.collection.seed, alone.teachers["own"].seed) == (1, 2)
