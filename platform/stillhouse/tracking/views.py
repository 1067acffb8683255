"""How a search is laid out on MLflow's pages: a saved view of its trials, with columns and charts.

The page lists saved views behind one button; MLflow keeps each as a tag of the experiment. A view that a version of
MLflow cannot read is left out of that list, and nothing else is affected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.tracking.base import metric_key, point_key

TAG = "mlflow.sharedViewState."
NOTE = "mlflow.note.content"
STUDY = "stillhouse.study"
BEST = "best"
"""Group of a trial's measures at its best report: those that the search compares."""
MAX_TAG = 20_000
"""Characters that MLflow takes in a tag of an experiment."""

EXPERIMENT_TAGS = {
    # Without it the page opens on what is for language model applications, once it has guessed the kind.
    "mlflow.experimentKind": "custom_model_development",
    NOTE: (
        "Recorded by stillhouse. A run is a parent; its trainings, trials and compared systems are its children.\n\n"
        "- **Views** (button at the top of this page): one for each search, its trials by their dev measure.\n"
        "- **`best/...`** is a trial's measure on dev at its best evaluation, `dev/...` and `train/...` are curves, "
        "`test/...` is measured once, at the end. `nDCG@10` is written `nDCG_at_10`.\n"
        "- A run's description says what it is; its artifacts hold recipe, figures, tables and `report/report.html`."
    ),
}
"""What an experiment says about itself from the start; what a user writes there later stays."""


@dataclass(frozen=True)
class View:
    """The trials of one search, side by side."""

    key: str
    """Its name in addresses."""
    name: str
    """Its name in the list of views."""
    study: str
    """Value of the tag `stillhouse.study` of the trials."""
    params: Sequence[str]
    """Names of the parameters that were drawn."""
    measures: Sequence[tuple[str, str]]
    """Measures of the search, each with `max` or `min`; the first one sorts."""
    time: float
    """Unix seconds; the newest view is listed first."""


def tag_of(view: View) -> tuple[str, str]:
    """The experiment tag that holds a view, as MLflow's page reads it."""
    milliseconds = int(view.time * 1000)
    for charts in (_charts(view), _charts(view)[:2]):
        state = json.dumps(_state(view, charts), separators=(",", ":"))
        content = {"name": view.name, "createdAt": milliseconds, "updatedAt": milliseconds, "state": state}
        value = json.dumps(content, separators=(",", ":"))
        if len(value) <= MAX_TAG:
            break
    return TAG + view.key, value


def newest_view(tags: Mapping[str, str]) -> tuple[float, str, str] | None:
    """When it was made, key and name of the newest view among an experiment's tags."""
    found = []
    for key, value in tags.items():
        if key.startswith(TAG):
            try:
                content = json.loads(value)
                found.append((float(content["createdAt"]) / 1000, key.removeprefix(TAG), str(content["name"])))
            except (ValueError, TypeError, KeyError):  # a link that somebody shared, which has no name
                continue
    return max(found, default=None)


def view_address(experiment_id: str, key: str, charts: bool = False) -> str:
    """Where a view is, after the server's address: its table, or its charts."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{runs_address(experiment_id)}&viewStateShareKey={key}{mode}"


def runs_address(experiment_id: str) -> str:
    """Where an experiment's runs are, after the server's address; without its type MLflow shows language models."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _state(view: View, charts: list[dict[str, Any]]) -> dict[str, Any]:
    measure, mode = view.measures[0]
    columns = [f"metrics.`{metric_key(BEST, name)}`" for name, _ in view.measures]
    columns += ["tags.`trial_state`", *(f"params.`{name}`" for name in view.params)]
    section = {"uuid": view.key, "name": view.name, "display": True, "isReordered": False, "columns": 2}
    return {
        "searchFilter": f"tags.`{STUDY}` = '{view.study}'",
        "orderByKey": f"metrics.`{metric_key(BEST, measure)}`",
        "orderByAsc": mode == "min",
        "selectedColumns": columns,
        "columnOrder": columns,
        # Wide enough for a dotted key, whose end says what it is.
        "columnWidths": {column: 30 + 6 * len(column.partition("`")[2]) for column in columns},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [section],
        # Else sections stand by their names, and those of the curves come first.
        "isAccordionReordered": True,
    }


def _charts(view: View) -> list[dict[str, Any]]:
    """All drawn values against the measure, the measure's curves, then each value alone against the measure."""
    best = [metric_key(BEST, name) for name, _ in view.measures]
    curve = point_key(view.measures[0][0])
    found: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": list(view.params),
            "selectedMetrics": best,
            "showAllRuns": True,
        },
        {
            "type": "LINE",
            "metricKey": curve,
            "selectedMetricKeys": [curve],
            # A few evaluations: as they were measured.
            "lineSmoothness": 0,
            "useGlobalLineSmoothing": False,
        },
    ]
    for name in view.params:
        x, y = {"key": name, "type": "PARAM"}, {"key": best[0], "type": "METRIC"}
        found.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    common = {"runsCountToCompare": 100, "metricSectionId": view.key, "deleted": False, "isGenerated": False}
    return [{**one, **common, "uuid": f"{view.key}-{number}"} for number, one in enumerate(found)]
