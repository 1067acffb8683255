"""A small search in a real record, by the code that records searches; its curves are a formula, nothing is trained."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.evaluation.figures import learning_curves
from stillhouse.pipeline.notes import recipe_note
from stillhouse.recipe import load_recipe
from stillhouse.search import draw, load_space
from stillhouse.search.browsing import search_note
from stillhouse.search.dimensions import Choice
from stillhouse.search.record import Report, StudyFolder, Trial, study_id, trial_key
from stillhouse.search.recorder import Recorder
from stillhouse.tracking import MlflowTracker, Point

TRIALS, EVALUATIONS, STEP = 6, 5, 40
TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"
RATE = "stages.distill.optimizer.learning_rate"


@dataclass(frozen=True)
class RecordedSearch:
    """Where it stands."""

    experiment: str
    parent: str
    study: str
    trials: list[Trial]
    best: Trial


def measure(values: dict[str, Any], evaluation: int) -> float:
    """nDCG@10 at an evaluation 1, 2, ...: best at temperature 2, rate 5e-5; past its best it falls a little."""
    far = (math.log(values[TEMPERATURE] / 2) / 3) ** 2 + (math.log(values[RATE] / 5e-5) / 6) ** 2
    top = 0.46 - 0.12 * far + 0.01 * math.log2(1 + values[NEGATIVES])
    return top * (1 - 0.4 * 0.45**evaluation) - (0.01 if evaluation == EVALUATIONS else 0.0)


def record_search(uri: str, root: Path, experiment: str = "demo", time: float = 1_760_000_000.0) -> RecordedSearch:
    """Six trials under a parent; the fifth is stopped early, the last one fails. Figures lie with parent and trials."""
    recipe, space = load_recipe("demo"), load_space("temperature_negatives_lr")
    tracker, rng = MlflowTracker(uri, experiment), random.Random(5)
    parent = tracker.run("search", recipe.name)
    folder = StudyFolder(root, study_id(recipe, space, {}))
    recorder = Recorder(folder, tracker, parent, recipe, space, root, lambda trial: None)
    pictures, trials = root / "pictures", []
    for number in range(TRIALS):
        values = draw(space, recipe, lambda key, one: pick(rng, one))
        trial = Trial(number, trial_key(recipe, values, {}), values)
        recorder.start(trial)
        last = {TRIALS - 2: 2, TRIALS - 1: 0}.get(number, EVALUATIONS)
        for evaluation in range(1, last + 1):
            now = time + 600 * number + 60 * evaluation
            metrics = {"nDCG@10": measure(values, evaluation), "train/loss": 2 * 0.8**evaluation}
            recorder.report(trial, [Report(evaluation * STEP, now, metrics)])
        if last == 0:
            trial.state, trial.error = "FAILED", "the loss is not finite at step 3; lower the learning rate"
        else:
            trial.state = "FINISHED" if last == EVALUATIONS else "PRUNED"
            curve = {"dev": [(report.step, report.metrics["nDCG@10"]) for report in trial.reports]}
            learning_curves(curve, pictures / f"{number}" / "curve.png", "nDCG@10")
            recorder.tracker.artifact(f"queued:{folder.name}/{trial.key}", pictures / f"{number}", "figures")
        recorder.end(trial)
        trials.append(trial)
    recorder.finish()
    curves = {
        f"trial {trial.number}": [(report.step, report.metrics["nDCG@10"]) for report in trial.reports]
        for trial in trials
        if trial.reports
    }
    learning_curves(curves, pictures / "all" / "trials.png", "nDCG@10 on dev")
    tracker.artifact(parent, pictures / "all", "figures")
    best = max((trial for trial in trials if trial.state == "FINISHED"), key=lambda trial: trial.metric or 0.0)
    tracker.points(parent, [Point("test/nDCG@10", 0.4712, 0, time + 9000)])
    tracker.note(parent, f"{recipe_note(recipe)}\n\n{search_note(folder.name, space, trials)}")
    tracker.end(parent)
    return RecordedSearch(experiment, parent, folder.name, trials, best)


def pick(rng: random.Random, dimension: Any) -> Any:
    """A value of a dimension: one of its choices, or between its ends, on a log scale where it asks for one."""
    if isinstance(dimension, Choice):
        return rng.choice(dimension.choice)
    low, high = dimension.bounds
    drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if dimension.log else rng.uniform(low, high)
    return drawn if isinstance(low, float) else round(drawn)
