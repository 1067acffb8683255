"""The tables of the report of a search."""

from __future__ import annotations

from collections.abc import Sequence

from stillhouse.comparison.content import Table
from stillhouse.search.importance import Importance
from stillhouse.search.record import Trial
from stillhouse.search.space import SearchSpace
from stillhouse.study_report.confirmation import BEST, DEFAULT, Confirmation
from stillhouse.study_report.cost import SearchCost
from stillhouse.study_report.knobs import Knob
from stillhouse.study_report.sentences import STATE_WORDS, p_value


def confirmation_table(confirmed: Confirmation | None) -> Table | None:
    if confirmed is None:
        return None
    measures = list(confirmed.test[BEST])
    header = ["configuration", "seeds", f"{confirmed.measure} dev", *(f"{measure} test" for measure in measures)]
    rows = [
        [
            name,
            ", ".join(str(seed) for seed in confirmed.seeds),
            _spread(confirmed.dev[name]),
            *(_spread(confirmed.test[name][measure]) for measure in measures),
        ]
        for name in (BEST, DEFAULT)
    ]
    return Table(header, rows)


def _spread(values: Sequence[float]) -> str:
    """Mean over seeds, with the lowest and the highest."""
    if not values:
        return "-"
    mean = sum(values) / len(values)
    return f"{mean:.4f}" if len(values) == 1 else f"{mean:.4f} ({min(values):.4f} to {max(values):.4f})"


def comparison_table(confirmed: Confirmation | None) -> Table | None:
    if confirmed is None:
        return None
    test = confirmed.comparison
    header = ["pair", "difference", "95 % interval", "p t-test", "p Fisher", "effect dz", "win/tie/loss", "queries"]
    row = [
        f"{test.a} \N{MINUS SIGN} {test.b}",
        f"{test.difference:+.4f}",
        f"{test.ci_low:+.4f} to {test.ci_high:+.4f}",
        p_value(test.p).removeprefix("= "),
        p_value(test.fisher_p).removeprefix("= "),
        "-" if test.effect_size is None else f"{test.effect_size:+.2f}",
        f"{test.wins} / {test.ties} / {test.losses}",
        f"{test.queries}",
    ]
    return Table(header, [row])


def importance_table(found: Sequence[Importance], knobs: Sequence[Knob]) -> Table:
    header = ["key", *(part for one in found for part in (f"{one.basis} ({one.trials})", "by chance"))]
    return Table(
        header, [[knob.key, *(cell for one in found for cell in _importance_cells(one, knob))] for knob in knobs]
    )


def _importance_cells(found: Importance, knob: Knob) -> list[str]:
    key = found.keys[knob.key]
    among = "" if key.trials == found.trials else f" ({key.trials})"
    if key.share is None or key.chance is None:
        return [f"-{among}", "-"]
    return [f"{key.share:.0%}{among}", f"up to {key.chance:.0%}"]


def importance_note(found: Importance) -> str:
    what = (
        "fANOVA (Hutter et al. 2014): share of the measure's variance over the space that a key alone explains; what "
        "is left belongs to combinations of keys."
        if found.evaluator == "fanova"
        else "PED-ANOVA (Watanabe et al. 2023), as scikit-learn is not installed: weight of a key among all for "
        "reaching the best quarter."
    )
    return (
        f"{what} By chance: the most that the key got when its values were shuffled over the trials, 19 times. "
        "Finished trials had their whole training, but early stopping leaves only good ones among them."
    )


def trial_table(trials: Sequence[Trial], knobs: Sequence[Knob], space: SearchSpace) -> Table:
    """The best first; what was not measured stands at the end."""
    sign = -1 if space.modes[0] == "max" else 1
    ordered = sorted(trials, key=lambda trial: (trial.metric is None, sign * (trial.metric or 0.0), trial.number))
    header = ["trial", *(knob.name for knob in knobs), *space.metrics, "state", "evaluations", "steps", "seconds"]
    rows = [
        [
            str(trial.number),
            *(knob.label(trial.values[knob.key]) if knob.key in trial.values else "-" for knob in knobs),
            *(f"{value:.4f}" if value < 100 else f"{value:,.0f}" for value in trial.metrics or ()),
            *("-" for _ in range(0 if trial.metrics else len(space.metrics))),
            STATE_WORDS[trial.state] + (f": {trial.error}" if trial.error else ""),
            str(len(trial.reports)),
            str(trial.reports[-1].step if trial.reports else 0),
            f"{trial.seconds:.0f}",
        ]
        for trial in ordered
    ]
    return Table(header, rows)


def cost_facts(cost: SearchCost) -> dict[str, str]:
    saved = "not known, as finished trials end at different steps"
    return {
        **{STATE_WORDS[state]: f"{count} trials" for state, count in cost.states.items()},
        "seconds of all trials": f"{cost.trial_seconds:,.0f}",
        "seconds of wall time": f"{cost.wall_seconds:,.0f}",
        "optimiser steps": f"{cost.steps:,}",
        "optimiser steps saved by stopping early": saved if cost.steps_saved is None else f"{cost.steps_saved:,}",
        "dev evaluations": f"{cost.evaluations:,}",
        "dev evaluations saved by stopping early": f"{cost.evaluations_saved:,}",
    }
