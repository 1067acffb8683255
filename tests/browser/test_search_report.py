"""The report of a search in a real browser: every picture is drawn, nothing runs, nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.search import importance
from stillhouse.study_report import build_content, write_page
from tests.browser.test_report import BROWSER, shows_pictures_and_runs_nothing
from tests.contracts.search_studies import make_study

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")


def test_the_browser_shows_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    content = build_content(make_study())
    page = write_page(content, tmp_path / "search.html")[0]
    # The title, an error and the provenance hold a script that would set the title.
    shows_pictures_and_runs_nothing(page, tmp_path, [picture.key for picture in content.pictures])
