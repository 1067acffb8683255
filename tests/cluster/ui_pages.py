"""The pages that a user of the record opens, in a real browser: what a test reads and what the documentation shows.

`python -m tests.cluster.ui_pages docs/images` records a small search, opens its pages, and writes the pictures.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import stillhouse
from tests.contracts.browser import Browser, element
from tests.contracts.search_record import RecordedSearch, record_search

MOST_BYTES = 200_000
ASSISTANT = "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')"


@dataclass(frozen=True)
class Served:
    """What `stillhouse ui` said."""

    server: str
    runs: str
    charts: str
    lines: list[str]
    process: subprocess.Popen[str]


@contextmanager
def ui(uri: str) -> Iterator[Served]:
    """`stillhouse ui` on a free port, ended as a service is."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(stillhouse.__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-m", "stillhouse", "ui", "--tracking", uri, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().strip() for _ in range(3)]
            server, runs, charts = (found[0] for line in lines if (found := re.search(r"http://\S+", line)))
            yield Served(server, runs, charts, lines, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def show_runs(browser: Browser, served: Served) -> None:
    """The experiment's runs: the search's parent, with what it is said to be."""
    browser.open(served.runs)
    browser.wait_for("Views", "Recorded by stillhouse", "matching run", "demo")
    # MLflow opens a chat beside the page once; a user closes it.
    browser.click(ASSISTANT)
    browser.wait(f"!{ASSISTANT}")
    browser.wait("Boolean(document.querySelector('.ag-row'))")


def choose_view(browser: Browser, served: Served, search: RecordedSearch) -> None:
    """From the runs to the trials of a search: the button and its one entry; then by its address."""
    browser.click(element("button", "Views"))
    name = f"Search demo ({search.study[:8]})"
    browser.click(element("[role=menuitem], [role=menuitemradio], [role=menuitemcheckbox], li", name))
    trials = [f"trial {trial.number:03d}" for trial in search.trials]
    browser.wait_for(f"{len(search.trials)} matching runs", *trials)
    # The entry forgets the type of the pages that its address names.
    browser.open(served.charts.replace("&compareRunsMode=CHART", ""))
    browser.wait_for(*trials, "best/nDCG_at_10", "trial_state", "PRUNED", "Model registry")


def show_charts(browser: Browser, served: Served) -> None:
    """The trials as parallel coordinates and curves."""
    browser.open(served.charts)
    browser.wait_for("Parallel Coordinates", "dev/nDCG_at_10")
    # One axis for each drawn value and one for the measure.
    browser.wait("document.querySelectorAll('.parcoords .dimension, .parcoords .axis').length >= 4")
    # A line for each trial that reported, beside the points of the other charts.
    browser.wait("document.querySelectorAll('.js-plotly-plot .scatterlayer .js-line').length >= 5")


def show_run(browser: Browser, served: Served, search: RecordedSearch) -> None:
    """The parent: its description with the best trials."""
    browser.open(f"{served.server}/#/experiments/1/runs/{search.parent}?workflowType=machine_learning")
    browser.wait_for("Description", f"{search.best.metric:.4f}", "as a table", "test/nDCG_at_10", "trial 000")
    browser.click(element("button, a, span", "Show more"))
    browser.wait_for("Show less")


def show_figure(browser: Browser, served: Served, search: RecordedSearch) -> None:
    """A figure of the parent, drawn in the page."""
    path = f"{search.parent}/artifacts/figures/trials.png"
    browser.open(f"{served.server}/#/experiments/1/runs/{path}?workflowType=machine_learning")
    browser.wait_for("trials.png")
    browser.wait("[...document.querySelectorAll('img')].some(one => one.complete && one.naturalWidth > 400)")


def small(path: Path) -> Path:
    """The picture in few enough bytes: with fewer colours."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size <= MOST_BYTES, f"{path}: {path.stat().st_size} bytes"
    return path


def tour(browser: Browser, served: Served, search: RecordedSearch, folder: Path) -> Iterator[tuple[str, str]]:
    """Open page after page; name and visible text of each, its picture written."""
    pages = {
        "experiment": lambda: show_runs(browser, served),
        "trials": lambda: choose_view(browser, served, search),
        "comparison": lambda: show_charts(browser, served),
        "run": lambda: show_run(browser, served, search),
        "figure": lambda: show_figure(browser, served, search),
    }
    for name, show in pages.items():
        show()
        text = browser.text()
        browser.settle()
        small(browser.picture(folder / f"ui-{name}.png"))
        yield name, text


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        uri = f"sqlite:///{place}/mlflow.db"
        search = record_search(uri, Path(place, "work"))
        with ui(uri) as served, Browser(Path(place, "profile")) as browser:
            for name, _ in tour(browser, served, search, Path(place)):
                if name != "figure":  # it shows where on this machine the file lies
                    shutil.copy(Path(place, f"ui-{name}.png"), folder)
                    print(f"{folder}/ui-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
