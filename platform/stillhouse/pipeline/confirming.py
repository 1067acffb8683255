"""Is what the search found better than what the recipe says? Both trained with the same seeds, compared on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stillhouse.evaluation.measures import PerQuery
from stillhouse.evaluation.significance import compare
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import Model, TeacherFile, make_job, train_model
from stillhouse.pipeline.recording import Recorder
from stillhouse.pipeline.runs import mean_of, measure, model_run
from stillhouse.recipe import Recipe, override
from stillhouse.study_report.confirmation import BEST, DEFAULT, Confirmation


def confirm(context: Context, recorder: Recorder, winner: Recipe, scores: TeacherFile | None) -> Confirmation | None:
    """`search.confirm_seeds` trainings of the winner and as many of the recipe, measured once on test; None for 0.

    Seeds are the recipe's and those after it; the sample of queries stays the same. Each training is kept under its
    key, as all are: the first of the winner is the student of `stillhouse run`.
    """
    recipe = context.recipe
    count = recipe.search.confirm_seeds if recipe.search else 0
    if not count:
        return None
    seeds = list(range(recipe.seed, recipe.seed + count))
    models = {
        name: [_train(context, recorder, name, one, scores, seed) for seed in seeds]
        for name, one in ((BEST, winner), (DEFAULT, recipe))
    }
    # Everything is trained before test is looked at.
    measured = {
        name: [
            measure(context, model_run(context, f"{name}, seed {seed}", model, "test"), "test")
            for seed, model in zip(seeds, members, strict=True)
        ]
        for name, members in models.items()
    }
    tested = recipe.evaluation.select_by
    (comparison,) = compare(
        {name: seed_mean(values, tested) for name, values in measured.items()}, [(BEST, DEFAULT)], measure=tested
    )
    return Confirmation(
        tested,
        recipe.collection.test,
        seeds,
        {
            name: {which: [mean_of(one[which]) for one in values] for which in recipe.evaluation.measures}
            for name, values in measured.items()
        },
        {name: [model.facts[tested] for model in members if tested in model.facts] for name, members in models.items()},
        comparison,
        same=[model.key for model in models[BEST]] == [model.key for model in models[DEFAULT]],
    )


def seed_mean(values: Sequence[PerQuery], measure_name: str) -> dict[str, float]:
    """One measure of several seeds: query_id -> mean over the seeds."""
    queries = values[0][measure_name]
    return {query: sum(one[measure_name][query] for one in values) / len(values) for query in queries}


def _train(
    context: Context, recorder: Recorder, name: str, recipe: Recipe, scores: TeacherFile | None, seed: int
) -> Model:
    scale = recipe.retrain.model_dump(mode="json")
    job = replace(make_job(context, recipe.student, recipe.stages, scores, scale), seed=seed)
    title = f"{name}, seed {seed}"
    model = train_model(context, title, job)
    recorder.training(title, model, override(recipe, {"seed": seed}), scores)
    return model
