"""What a user of MLflow's pages reads about a search: its view, and the descriptions of its runs. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillhouse.markdown import markdown_table
from stillhouse.search.dimensions import Choice
from stillhouse.search.record import Trial, flatten
from stillhouse.search.space import SearchSpace
from stillhouse.tracking import Point
from stillhouse.tracking.views import BEST, View, view_address

MOST_TRIALS = 5
"""Trials that the description of a search lists."""


def view_of(study: str, name: str, space: SearchSpace, time: float) -> View:
    """The trials of a study side by side: what is drawn, and the measures it is judged by."""
    measures = list(zip(space.metrics, space.modes, strict=True))
    return View(study, f"Search {name} ({study[:8]})", study, drawn_params(space), measures, time)


def drawn_params(space: SearchSpace) -> list[str]:
    """Names of the parameters that a space decides; a choice among mappings decides all of their keys."""
    names: list[str] = []
    for key, dimension in space.space.items():
        options = dimension.choice if isinstance(dimension, Choice) else ()
        leaves = [leaf for option in options if isinstance(option, Mapping) for leaf in flatten({key: option})]
        names += leaves or [key]
    return list(dict.fromkeys(names))


def best_points(trial: Trial, space: SearchSpace) -> list[Point]:
    """The measures that a trial is judged by: a curve's last value is not always its best."""
    best = trial.best_report(space)
    if best is None:
        return []
    return [Point(f"{BEST}/{name}", best.metrics[name], best.step, best.time) for name in space.metrics]


def trial_note(trial: Trial, study: str, space: SearchSpace) -> str:
    """The description of a trial's run."""
    best = trial.best_report(space)
    lines = [f"Trial {trial.number} of search `{study}`: {trial.state.lower()}."]
    if best is not None:
        values = " and ".join(f"{name} on dev **{best.metrics[name]:.4f}**" for name in space.metrics)
        lines.append(f"{values}, at step {best.step} (the best of {len(trial.reports)} evaluations).")
    if trial.error:
        lines.append(f"`{trial.error}`")
    drawn = [[f"`{key}`", f"`{short(value)}`"] for key, value in trial.values.items()]
    lines.append("\n".join(markdown_table(["drawn", "value"], drawn, left=2)))
    return "\n\n".join([*lines, _links(study)])


def search_note(study: str, space: SearchSpace, trials: Sequence[Trial]) -> str:
    """The part of a parent's description that tells of its search: the best trials, and where all are compared."""
    judged = [trial for trial in trials if trial.metric is not None]
    judged.sort(key=lambda trial: trial.metric or 0.0, reverse=space.modes[0] == "max")
    states = ", ".join(
        f"{sum(trial.state == state for trial in trials)} {state.lower()}"
        for state in ("FINISHED", "PRUNED", "FAILED")
        if any(trial.state == state for trial in trials)
    )
    keys = list(dict.fromkeys(key for trial in judged[:MOST_TRIALS] for key in trial.values))
    rows = [
        [f"{trial.number:03d}", *(f"{value:.4f}" for value in trial.metrics or ()), trial.state.lower()]
        + [f"`{short(trial.values[key])}`" if key in trial.values else "" for key in keys]
        for trial in judged[:MOST_TRIALS]
    ]
    head = ["trial", *(f"{name} on dev" for name in space.metrics), "state", *(f"`{one}`" for one in _last_words(keys))]
    said = f"Search `{study}`: {len(trials)} trials ({states}). {_links(study)}"
    table = "\n".join(markdown_table(head, rows, left=len(head)))
    return "\n\n".join([said, f"The best {len(rows)}:", table])


def short(value: object) -> str:
    """A drawn value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _last_words(keys: Sequence[str]) -> list[str]:
    """Dotted keys by their last word, where that tells them apart."""
    words = [key.rpartition(".")[2] for key in keys]
    return [word if words.count(word) == 1 else key for key, word in zip(keys, words, strict=True)]


def _links(study: str) -> str:
    rows, charts = (view_address("{experiment}", study, charts=charts) for charts in (False, True))
    return f"All trials of this search: [as a table]({rows}), [as charts]({charts})."
