"""What a search found, in plain sentences: its cost, its gain with confidence, and each key."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from stillhouse.search.dimensions import Choice
from stillhouse.search.importance import MIN_SHARE, MIN_TRIALS, Importance, KeyImportance
from stillhouse.search.record import Trial
from stillhouse.study_report.confirmation import BEST, DEFAULT, Confirmation
from stillhouse.study_report.cost import SearchCost
from stillhouse.study_report.knob_charts import best_quarter
from stillhouse.study_report.knobs import Knob

STATE_WORDS = {"FINISHED": "finished", "PRUNED": "stopped early", "FAILED": "failed", "RUNNING": "running"}
ALPHA = 0.05


def cost_sentence(cost: SearchCost) -> str:
    """Trials by state, times, and what stopping early saved."""
    states = ", ".join(f"{count} {STATE_WORDS[state]}" for state, count in cost.states.items())
    total = sum(cost.states.values())
    words = (
        f"{total} trial{'s' * (total != 1)} ({states}) took {duration(cost.trial_seconds)} of trials in "
        f"{duration(cost.wall_seconds)} of wall time"
    )
    if not cost.states.get("PRUNED"):
        return f"{words}; none was stopped early."
    evaluations = cost.evaluations + cost.evaluations_saved
    saved = f"{cost.evaluations_saved} of {evaluations} evaluations"
    if cost.steps_saved is not None:
        steps = cost.steps + cost.steps_saved
        saved += f" and {cost.steps_saved:,} of {steps:,} optimiser steps ({cost.steps_saved / max(1, steps):.0%})"
    return f"{words}; stopping early saved {saved}."


def best_sentence(best: Trial, knobs: Sequence[Knob], measure: str) -> str:
    """The best trial with its values."""
    values = ", ".join(f"{knob.name} {knob.label(best.values[knob.key])}" for knob in knobs if knob.key in best.values)
    return f"Best on dev: trial {best.number} with {measure} {best.metric:.4f}: {values}."


def gain_sentence(confirmation: Confirmation | None) -> str:
    """Is the best configuration better than the recipe's own values, on test?"""
    if confirmation is None:
        return (
            "Not confirmed: dev chose the best trial, so its figure is too good. `search.confirm_seeds: 3` trains it "
            "and the recipe's own values with three seeds each and compares them on test."
        )
    test, seeds = confirmation.comparison, len(confirmation.seeds)
    many = f"{seeds} seed{'s' * (seeds != 1)}"
    if confirmation.same:
        return f"No gain: the best values are those of the recipe ({confirmation.measure} {test.mean_a:.4f} on test)."
    figures = (
        f"{confirmation.measure} {test.mean_a:.4f} with the best values and {test.mean_b:.4f} with the recipe's own, "
        f"{test.difference:+.4f} (95 % interval {test.ci_low:+.4f} to {test.ci_high:+.4f}, paired t-test "
        f"p {p_value(test.p)}, effect dz {'none' if test.effect_size is None else f'{test.effect_size:+.2f}'}; "
        f"{test.queries} test queries, mean of {many})"
    )
    if test.p >= ALPHA:
        return f"No clear gain on test: {figures}, a difference that chance alone may make."
    return f"{'Gain' if test.difference > 0 else 'Loss'} on test: {figures}."


def seed_sentences(confirmation: Confirmation) -> list[str]:
    """How far seeds are apart: the test over queries says nothing about other seeds."""
    measure = confirmation.measure
    best, default = (confirmation.test[name][measure] for name in (BEST, DEFAULT))
    if len(best) < 2:
        return ["One seed each: how far seeds are apart cannot be told."]
    lines = [
        f"{name}: {min(values):.4f} to {max(values):.4f} over {len(values)} seeds"
        for name, values in ((BEST, best), (DEFAULT, default))
    ]
    clear = "every seed of the best values is above every seed of the default" if min(best) > max(default) else ""
    clear = clear or ("the two overlap" if max(best) >= min(default) else "every seed of the best values is below")
    return [f"Means on test by seed: {'; '.join(lines)}; {clear}."]


def knob_sentence(knob: Knob, found: Importance, trials: Sequence[Trial], best: Trial, mode: str) -> str:
    """Did this key matter, and where are its good values?"""
    judged = [trial for trial in trials if trial.metric is not None and knob.key in trial.values]
    return f"{knob.name}: {_verdict(found.keys[knob.key], found)}{_where(knob, judged, best, mode)}"


def mattered_sentence(found: Importance, knobs: Sequence[Knob]) -> str:
    """Which keys mattered, in one sentence."""
    told = [knob for knob in knobs if found.keys[knob.key].share is not None]
    if not told:
        return "Which keys mattered cannot be told from so few trials."
    by_share = sorted(told, key=lambda knob: -(found.keys[knob.key].share or 0.0))
    above = [knob.name for knob in by_share if found.keys[knob.key].mattered]
    below = [knob.name for knob in by_share if not found.keys[knob.key].mattered]
    if not above:
        return f"No key mattered more than chance would have it, or more than a trifle: {', '.join(below)}."
    rest = f"; the others not more than chance, or a trifle: {', '.join(below)}" if below else ""
    return f"Mattered, most first: {', '.join(above)}{rest}."


def _verdict(one: KeyImportance, found: Importance) -> str:
    if one.share is None or one.chance is None:
        return f"whether it mattered cannot be told ({one.reason})."
    among = f"{one.trials} {found.basis}" if one.trials == found.trials else f"the {one.trials} trials that drew it"
    among = among.replace("all trials", "trials")
    explains = f"{one.share:.0%} of the differences between {among}"
    if found.evaluator == "ped-anova":
        explains = f"{one.share:.0%} of the weight of all keys over {among}"
    if one.chance < one.share <= MIN_SHARE:
        return f"it hardly mattered: {explains}."
    if one.mattered:
        return f"it mattered: {explains}, where chance reaches {one.chance:.0%}."
    return (
        f"it made no difference that could be told from chance: {explains}, and chance alone reaches {one.chance:.0%}."
    )


def _where(knob: Knob, judged: Sequence[Trial], best: Trial, mode: str) -> str:
    if not judged:
        return ""
    default = "" if knob.default is None else f", the recipe has {knob.default_label()}"
    drawn = f"; the best trial has {knob.label(best.values[knob.key])}" if knob.key in best.values else ""
    if isinstance(knob.dimension, Choice):
        # A stopped trial stands where it was stopped, which is no fair figure for its value.
        ended = [trial for trial in judged if trial.state == "FINISHED"]
        means = {
            knob.label(value): [trial.metric or 0.0 for trial in ended if knob.has(trial.values, value)]
            for value in knob.dimension.choice
        }
        shown = ", ".join(f"{fmean(one):.4f} with {name} ({len(one)})" for name, one in means.items() if one)
        return f" Means of finished trials (how many): {shown}{drawn}{default}."
    if len(judged) < MIN_TRIALS:
        return f"{drawn}{default}".replace("; the", " The", 1) + "."
    top = sorted(trial.values[knob.key] for trial in best_quarter(judged, mode))
    return f" The best quarter lies at {knob.label(top[0])} to {knob.label(top[-1])}{drawn}{default}."


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
