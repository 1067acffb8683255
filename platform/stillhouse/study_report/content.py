"""All that the report of a search says, as plain data: page, Markdown and JSON show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stillhouse.comparison.content import Picture, Table
from stillhouse.comparison.entrants import Section
from stillhouse.evaluation.report import finite
from stillhouse.recipe import Recipe
from stillhouse.search.dimensions import Choice
from stillhouse.search.importance import Importance, importances, plain
from stillhouse.search.importance import best as most_telling
from stillhouse.search.record import Trial, best_of, front_of
from stillhouse.search.space import SearchSpace
from stillhouse.study_report import charts, knob_charts
from stillhouse.study_report.confirmation import Confirmation
from stillhouse.study_report.cost import SearchCost, search_cost
from stillhouse.study_report.knobs import Knob, knobs_of
from stillhouse.study_report.sentences import (
    best_sentence,
    cost_sentence,
    gain_sentence,
    knob_sentence,
    mattered_sentence,
    seed_sentences,
)
from stillhouse.study_report.tables import (
    comparison_table,
    confirmation_table,
    cost_facts,
    importance_note,
    importance_table,
    trial_table,
)

MOST_PAIRS = 3


@dataclass(frozen=True)
class Study:
    """What the report is about."""

    name: str
    """Id of the study."""
    title: str
    space: SearchSpace
    recipe: Recipe
    """What the trials changed."""
    trials: Sequence[Trial]
    seconds: float
    confirmation: Confirmation | None = None
    sections: Sequence[Section] = ()
    """Where it comes from."""


@dataclass(frozen=True)
class StudyContent:
    """The report."""

    title: str
    summary: Sequence[str]
    confirmation: Table | None
    comparison: Table | None
    seeds: Sequence[str]
    knobs: Sequence[str]
    importance: Table
    importance_note: str
    trials: Table
    front: Table | None
    cost: Mapping[str, str]
    pictures: Sequence[Picture]
    sections: Sequence[Section]
    data: Mapping[str, Any]
    """What `search.json` holds."""


def build_content(study: Study) -> StudyContent:
    """Judge the keys, add up the cost, draw the pictures. Raises SearchError if no trial was measured."""
    space, trials, mode, measure = study.space, list(study.trials), study.space.modes[0], study.space.metrics[0]
    best = best_of(trials, space)
    knobs = knobs_of(space, study.recipe.model_dump(mode="json"))
    found = importances(trials, space)
    by = most_telling(found)
    cost = search_cost(trials, study.seconds, study.recipe)
    confirmed = study.confirmation
    sentences = [knob_sentence(knob, by, trials, best, mode) for knob in knobs]
    summary = [
        cost_sentence(cost),
        best_sentence(best, knobs, measure),
        gain_sentence(confirmed),
        mattered_sentence(by, knobs),
    ]
    beaten_by_none = front_of(trials, space) if len(space.metrics) > 1 else []
    return StudyContent(
        study.title,
        summary,
        confirmation_table(confirmed),
        comparison_table(confirmed),
        seed_sentences(confirmed) if confirmed and not confirmed.same else [],
        sentences,
        importance_table(found, knobs),
        importance_note(by),
        trial_table(trials, knobs, space),
        trial_table(beaten_by_none, knobs, space) if beaten_by_none else None,
        cost_facts(cost),
        _pictures(study, best, knobs, found, by, beaten_by_none),
        study.sections,
        finite(_data(study, best, cost, found, summary, sentences, beaten_by_none)),
    )


def _pictures(
    study: Study,
    best: Trial,
    knobs: Sequence[Knob],
    found: Sequence[Importance],
    by: Importance,
    beaten_by_none: Sequence[Trial],
) -> list[Picture]:
    """History, curves, importance, a slice for each key, all at once, pairs of those that explain most, cost."""
    trials, measure, mode = study.trials, study.space.metrics[0], study.space.modes[0]
    judged = [trial for trial in trials if trial.metric is not None]
    stopped = any(trial.state == "PRUNED" for trial in trials)
    early = "A trial that was stopped stands at the best it had reached." if stopped else ""
    ends = "Lines that end early were stopped." if stopped else ""
    pictures = [
        Picture("history", "History", early, charts.history(trials, best, measure, mode)),
        Picture("curves", "What each trial learnt", ends,
                charts.curves(judged, best, measure)),
    ]  # fmt: skip
    if any(one.share is not None for one in by.keys.values()):
        drawing = knob_charts.importance_bars(found, knobs)
        caption = "A bar that ends before its mark is no more than chance makes of so many trials."
        pictures.append(Picture("importance", "Importance", caption, drawing))
    for index, knob in enumerate(knobs):
        if any(knob.key in trial.values for trial in judged):
            drawing = knob_charts.slice_of(trials, best, knob, measure)
            pictures.append(Picture(f"slice-{index}", f"{measure} over {knob.name}", "", drawing))
    lines = knob_charts.parallel(trials, best, knobs, measure, mode)
    caption = "A line for each trial; below an axis: not drawn. The best quarter is that of all trials with a measure."
    pictures.append(Picture("parallel", "Parallel coordinates", caption, lines))
    shared = [knob for knob in knobs if sum(knob.key in trial.values for trial in judged) > 1]
    shared.sort(key=lambda knob: -(by.keys[knob.key].share or 0.0))
    # Choices, whose names are long, go across.
    top = sorted(shared[:MOST_PAIRS], key=lambda knob: not isinstance(knob.dimension, Choice))
    for one, other in ((one, other) for place, one in enumerate(top) for other in top[place + 1 :]):
        drawing = knob_charts.pair(trials, best, one, other, measure, mode)
        caption = "The larger a sign, the better the trial."
        pictures.append(
            Picture(f"pair-{knobs.index(one)}-{knobs.index(other)}", f"{one.name} and {other.name}", caption, drawing)
        )
    if beaten_by_none:
        drawing = charts.front(trials, beaten_by_none, study.space.metrics)
        pictures.append(Picture("front", "Pareto front", "", drawing))
    return [*pictures, Picture("cost", "Cost", early, charts.cost(trials, best, measure))]


def _data(
    study: Study,
    best: Trial,
    cost: SearchCost,
    found: Sequence[Importance],
    summary: Sequence[str],
    sentences: Sequence[str],
    beaten_by_none: Sequence[Trial],
) -> dict[str, Any]:
    return {
        "study": study.name,
        "title": study.title,
        "metrics": list(study.space.metrics),
        "modes": list(study.space.modes),
        "summary": list(summary),
        "keys": list(sentences),
        "cost": asdict(cost),
        "best": _row(best),
        "front": [trial.number for trial in beaten_by_none],
        "confirmation": study.confirmation.plain() if study.confirmation else None,
        "importance": [plain(one) for one in found],
        "trials": [_row(trial) for trial in study.trials],
        "space": study.space.model_dump(mode="json", by_alias=True),
        "provenance": {section.title: dict(section.facts) for section in study.sections},
    }


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "key": trial.key,
        "values": trial.values,
        "state": trial.state,
        "metrics": list(trial.metrics) if trial.metrics else None,
        "steps": trial.reports[-1].step if trial.reports else 0,
        "evaluations": len(trial.reports),
        "seconds": trial.seconds,
        "error": trial.error,
    }
