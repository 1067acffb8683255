"""What a study knows before its first trial: points to try first, and the trials of an earlier study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from stillhouse.errors import SearchError
from stillhouse.recipe import Recipe
from stillhouse.search.record import StudyFolder
from stillhouse.search.sampling import distribution, encode_point, grid
from stillhouse.search.space import SearchSpace

LEARNT = "warm_start"


def enqueue(study: optuna.Study, space: SearchSpace, recipe: Recipe) -> None:
    """Put the starting points, or the whole grid, before what the sampler draws; those there already are left out."""
    points = [*space.start, *(grid(space, recipe) if space.sampler.name == "grid" else ())]
    for point in points:
        study.enqueue_trial(encode_point(space, point), skip_if_exists=True)


def learn_from(study: optuna.Study, space: SearchSpace, root: Path) -> None:
    """Add the finished trials of the study that the space names, once. Raises SearchError if none of them fits."""
    if space.warm_start is None or any(LEARNT in one.user_attrs for one in study.get_trials(deepcopy=False)):
        return
    trials = list(_earlier(space, space.warm_start, root))
    if not trials:
        known = ", ".join(sorted(path.name for path in (root / "studies").glob("*"))) or "none"
        raise SearchError(
            f"warm_start {space.warm_start}: no finished trial there has this space's keys, values and measures; "
            f"studies under {root}: {known}"
        )
    study.add_trials(trials)


def _earlier(space: SearchSpace, name: str, root: Path) -> Iterator[FrozenTrial]:
    for trial in StudyFolder(root, name).trials():
        best = trial.best_report(space)
        fits = all(key in space.space and space.space[key].has(value) for key, value in trial.values.items())
        whole = all(key in trial.values for key, dimension in space.space.items() if not dimension.when)
        if trial.state == "FINISHED" and best is not None and fits and whole:
            yield optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                values=[best.metrics[metric] for metric in space.metrics],
                params=encode_point(space, trial.values),
                distributions={key: distribution(space.space[key]) for key in trial.values},
                user_attrs={LEARNT: name, "trial": trial.key},
            )
