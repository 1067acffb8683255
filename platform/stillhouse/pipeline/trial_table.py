"""What a search shows of its trials: a table, for two objectives with the Pareto front in it."""

from __future__ import annotations

from rich.table import Table

from stillhouse.search.browsing import short
from stillhouse.search.record import StudyResult, Trial

ON_FRONT = "*"


def trial_table(study: StudyResult) -> Table:
    """The trials, best first; of two objectives those that no other beats in both come first and have a star."""
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.values))
    several = len(study.measures) > 1
    title = f"{len(study.trials)} trials" + (f"; {ON_FRONT} {len(study.front)} on the Pareto front" if several else "")
    table = Table(title=title)
    for name in (*keys, *(study.measures if several else ("metric",)), "state", "seconds"):
        table.add_column(name, overflow="fold")
    front = study.front if several else [study.best]
    chosen = {trial.number for trial in front}
    for trial in [*front, *(trial for trial in study.trials if trial.number not in chosen)]:
        values = [short(trial.values[key]) if key in trial.values else "-" for key in keys]
        metrics = _metrics(trial, max(1, len(study.measures)))
        state = f"{trial.state} {ON_FRONT}" if several and trial.number in chosen else trial.state
        table.add_row(*values, *metrics, state, f"{trial.seconds:.0f}")
    return table


def _metrics(trial: Trial, count: int) -> list[str]:
    return [f"{value:.4f}" if value < 100 else f"{value:,.0f}" for value in trial.metrics or ()] or ["-"] * count
