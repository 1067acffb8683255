"""The report in a real browser: it draws, light and dark, wide and narrow, without errors and without the network."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillhouse.comparison import Content, write_page
from tests.contracts.report_pages import make_content

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
DARK, LIGHT = 0, 1
"""Chromium's own numbers of the schemes that a page is told the user prefers."""


@dataclass
class Opened:
    """What the browser made of a page."""

    out: str
    err: str
    requests: list[str]


def open_page(page: Path, folder: Path, *arguments: str) -> Opened:
    assert BROWSER is not None
    log = folder / "net.json"
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr", *arguments,
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return Opened(done.stdout, done.stderr, requests(log))


def requests(log: Path) -> list[str]:
    """Addresses that the browser asked the network for, of its own log; its own services stand there as well."""
    content = log.read_text()
    # A browser that is stopped while it writes leaves the list open.
    events = json.loads(content if content.rstrip().endswith("}") else content.rstrip().rstrip(",") + "]}")["events"]
    return [str(event["params"]["url"]) for event in events if "url" in event.get("params", {})]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return make_content(tmp_path_factory.mktemp("content"))


@pytest.fixture(scope="module")
def page(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(content, tmp_path_factory.mktemp("page") / "report.html")[0]


def test_the_browser_shows_all_parts(content: Content, page: Path, tmp_path: Path) -> None:
    # The texts hold a script that would set the title, and a picture of another server.
    shows_pictures_and_runs_nothing(page, tmp_path, [picture.key for picture in content.pictures])


def shows_pictures_and_runs_nothing(page: Path, folder: Path, pictures: list[str]) -> None:
    opened = open_page(page, folder, "--dump-dom")
    assert opened.out.count("<svg") == len(pictures)
    for key in pictures:
        assert f'<figure id="{key}">' in opened.out
    assert "<title>taken</title>" not in opened.out
    assert "<script" not in opened.out
    assert "CONSOLE" not in opened.err, opened.err
    assert not [url for url in opened.requests if "example.org" in url]


def test_an_error_and_a_request_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "other.html"
    page.write_text('<img src="http://example.org/x.png"><script>document.title = "taken"; null.x</script>')
    opened = open_page(page, tmp_path, "--dump-dom")
    assert "<title>taken</title>" in opened.out
    assert "CONSOLE" in opened.err
    assert "http://example.org/x.png" in opened.requests


@pytest.mark.parametrize("width", [1280, 480])
def test_light_and_dark(page: Path, tmp_path: Path, width: int) -> None:
    pictures = {}
    for name, scheme in (("light", LIGHT), ("dark", DARK)):
        folder = tmp_path / name
        folder.mkdir()
        shot = folder / "page.png"
        open_page(
            page, folder, f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={width},1600",
            f"--screenshot={shot}",
        )  # fmt: skip
        with Image.open(shot) as image:
            pictures[name] = np.asarray(image.convert("RGB"), dtype=np.float64)
        assert pictures[name].shape == (1600, width, 3)
    light, dark = pictures["light"], pictures["dark"]
    assert np.median(light) > 240
    assert np.median(dark) < 40
    for picture in (light, dark):
        # Not blank: text and lines are a few percent of the page, and colours are drawn.
        paper = np.median(picture, axis=(0, 1))
        drawn = np.abs(picture - paper).max(axis=2) > 60
        assert 0.01 < drawn.mean() < 0.5
        assert (np.ptp(picture, axis=2) > 60).sum() > 200
        # Nothing is cut at the right edge: what is too wide scrolls inside its own frame.
        assert not drawn[:, -4:].any()
