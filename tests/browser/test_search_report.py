"""The report of a search in a real browser: every picture is drawn, nothing runs, nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.search import importance
from stillhouse.study_report import build_content, write_page
from tests.browser.test_report import BROWSER, open_page
from tests.contracts.search_studies import make_study

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")


def test_the_browser_shows_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    content = build_content(make_study())
    page = write_page(content, tmp_path / "search.html")[0]
    opened = open_page(page, tmp_path, "--dump-dom")
    assert opened.out.count("<svg") == len(content.pictures)
    for picture in content.pictures:
        assert f'<figure id="{picture.key}">' in opened.out
    # The title, an error and the provenance hold a script that would set the title.
    assert "<title>taken</title>" not in opened.out
    assert "<script" not in opened.out
    assert "CONSOLE" not in opened.err, opened.err
    assert not [url for url in opened.requests if "example.org" in url]
