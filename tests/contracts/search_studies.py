"""A small search with everything its report can show; what it counts is said here."""

from __future__ import annotations

from typing import Any

from stillhouse.comparison.entrants import Section
from stillhouse.evaluation.significance import compare
from stillhouse.recipe import Recipe
from stillhouse.search.record import Report, StudyFolder, Trial
from stillhouse.search.space import SearchSpace, make_space
from stillhouse.study_report import Study
from stillhouse.study_report.confirmation import BEST, DEFAULT, Confirmation
from tests.contracts.search_recipe import search_recipe

TEMPERATURE = "stages.distill.loss.temperature"
NEGATIVES = "stages.distill.groups.num_negatives"
RATE = "stages.distill.optimizer.learning_rate"
EVIL = '<script>document.title = "taken"</script> | a & b `code`'
STEPS = 10
EVALUATIONS = 4


def make_search_recipe() -> Recipe:
    return search_recipe({"name": "kl", "temperature": 2.0}, evaluations=EVALUATIONS)


def make_search_space() -> SearchSpace:
    return make_space(
        {
            "space": {
                TEMPERATURE: {"float": [0.5, 8.0], "log": True},
                NEGATIVES: {"choice": [1, 3, 7]},
                RATE: {"float": [1.0e-5, 1.0e-3], "log": True},
            },
            "trials": 20,
            "scheduler": {"name": "asha", "reduction_factor": 2},
        }
    )


def make_trials() -> list[Trial]:
    """Twenty: fifteen finish, four are stopped after one evaluation, one fails.

    Only the rate decides: from trial 10 on the measure is 0.45 and not 0.3; trial 13 is the best with 0.5.
    """
    trials = []
    for number in range(20):
        values: dict[str, Any] = {
            TEMPERATURE: 0.5 * 2 ** (number % 5),
            NEGATIVES: [1, 3, 7][number % 3],
            RATE: 10 ** (-5 + 2 * number / 19),
        }
        whole = 0.5 if number == 13 else 0.45 if number >= 10 else 0.3
        curve = [whole * share for share in (0.6, 0.8, 0.9, 1.0)]
        reports = [Report(STEPS * place, 1.0, {"nDCG@10": value}) for place, value in enumerate(curve, start=1)]
        if number == 19:
            trials.append(Trial(number, f"key{number}", values, "FAILED", [], None, 3.0, f"TrainingError: {EVIL}"))
        elif number < 4:
            trials.append(Trial(number, f"key{number}", values, "PRUNED", reports[:1], (curve[0],), 5.0))
        else:
            trials.append(Trial(number, f"key{number}", values, "FINISHED", reports, (whole,), 20.0))
    return trials


def make_confirmation() -> Confirmation:
    """Forty queries, of which the best values win thirty by 0.1 and lose ten by 0.1: 0.05 on average."""
    default = {f"q{number}": 0.5 for number in range(40)}
    best = {query: 0.6 if number < 30 else 0.4 for number, query in enumerate(default)}
    (test,) = compare({BEST: best, DEFAULT: default}, [(BEST, DEFAULT)], measure="nDCG@10")
    means = {BEST: {"nDCG@10": [0.54, 0.55, 0.56]}, DEFAULT: {"nDCG@10": [0.49, 0.5, 0.51]}}
    dev = {BEST: [0.6, 0.6, 0.6], DEFAULT: [0.5, 0.5, 0.5]}
    return Confirmation("nDCG@10", "toy/test", [0, 1, 2], means, dev, test)


def make_study() -> Study:
    sections = [Section("Data", {"test": EVIL}, f"name: {EVIL}\n")]
    return Study(
        "abc", f"Search {EVIL}", make_search_space(), make_search_recipe(), make_trials(), 100.0,
        make_confirmation(), sections,
    )  # fmt: skip


def write_study(root: Any, name: str = "abc") -> StudyFolder:
    """The same on disk, as a search leaves it."""
    from stillhouse.search.question import write_question

    folder = StudyFolder(root, name)
    for trial in make_trials():
        folder.write_trial(trial)
    folder.write_facts({"seconds": 100.0, "reason": "budget"})
    write_question(folder.path, make_search_recipe(), make_search_space())
    return folder
