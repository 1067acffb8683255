"""What the description of a run says on MLflow's pages. Pure functions."""

from __future__ import annotations

from stillhouse.evaluation.report import Report
from stillhouse.markdown import markdown_table
from stillhouse.recipe import Recipe

REPORT = "#/experiments/{experiment}/runs/{run}/artifacts/report/report.html?workflowType=machine_learning"


def recipe_note(recipe: Recipe) -> str:
    """What is trained from what."""
    teachers = ", ".join(f"`{name}`" for name in recipe.teachers) or "no teacher"
    stages = ", ".join(f"`{name}` ({stage.loss.name})" for name, stage in recipe.stages.items())
    return (
        f"Recipe `{recipe.name}`, seed {recipe.seed}, on `{recipe.collection.train}`: "
        f"student `{recipe.student.ranker}`, taught by {teachers}; stages: {stages}."
    )


def results_note(report: Report) -> str:
    """Each system on test, and where the whole report is."""
    measures = list(report.systems[0].per_query)
    rows = [
        [system.name, *(f"{sum(values.values()) / len(values):.4f}" for values in system.per_query.values())]
        for system in report.systems
    ]
    table = "\n".join(markdown_table(["on test", *measures], rows, left=1 + len(measures)))
    return f"{table}\n\n[The report]({REPORT}), with its tests and figures."
