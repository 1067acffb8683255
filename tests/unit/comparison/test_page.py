from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from stillhouse.comparison import Content, build_content, write_page
from stillhouse.comparison.charts import thinned
from stillhouse.comparison.content import Entrant
from stillhouse.comparison.page import in_markdown
from stillhouse.errors import CollectionError
from tests.contracts.report_pages import CONTRASTIVE, EVIL, STUDENT, TEACHER, make_content, make_ground, make_run


class Seen(HTMLParser):
    """Elements, attributes and text as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    return make_content(tmp_path_factory.mktemp("content"))


@pytest.fixture(scope="module")
def page(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(content, tmp_path_factory.mktemp("page") / "compared.html")[0]


def test_the_tests_shown_are_those_of_scipy(content: Content) -> None:
    # Reciprocal ranks: 1 and 1/2 in turn for the student, 1 and 1/3 for the contrastive one, 1 for the teacher.
    rows = {row[0]: row for row in content.systems.rows}
    assert [rows[name][1] for name in (STUDENT, CONTRASTIVE, TEACHER)] == ["0.7500", "0.6667", "1.0000"]
    gain = np.array([0, 1 / 2 - 1 / 3] * 10)
    test = next(one for one in content.report.comparisons if one.b == CONTRASTIVE)
    assert test.p == pytest.approx(stats.ttest_1samp(gain, 0).pvalue)
    assert test.effect_size == pytest.approx(gain.mean() / gain.std(ddof=1))
    shown = {row[0]: row for row in content.comparisons.rows}[f"{STUDENT} \N{MINUS SIGN} {CONTRASTIVE}"]
    assert shown[1] == "+0.0833"
    assert shown[7:] == ["10 / 10 / 0", "20"]
    # (0.75 - 2/3) / (1 - 2/3) = 1/4
    assert any("= 0.25, " in sentence for sentence in content.summary)
    assert not any("= 0.25, " in sentence for sentence in content.legend)


def test_the_winner_is_named_with_its_test(content: Content) -> None:
    # The best two, teacher and student, were among the pairs asked for: no pair is added.
    assert len(content.comparisons.rows) == 2
    assert content.summary[1].startswith(f"Winner: {TEACHER} with 1.0000 is +0.2500 above {STUDENT} (0.7500)")


def test_no_winner_without_evidence(tmp_path: Path) -> None:
    ground = make_ground(tmp_path)
    # One query of twenty differs: t of 1, p 0.33; the leaders are compared though nobody asked.
    ranks = [1] * 20
    entrants = [Entrant("a", make_run([2, *ranks[1:]], 1)), Entrant("b", make_run(ranks, 2))]
    content = build_content("x", ground, entrants, measures=["RR@10"])
    assert content.summary[1].startswith("No clear winner: b with 1.0000 is +0.0250 above a")
    assert content.report.comparisons[0].p == pytest.approx(2 * stats.t.sf(1, 19))
    same = build_content("x", ground, [entrants[0], Entrant("c", entrants[0].run)], measures=["RR@10"])
    assert same.summary[1] == "No winner: a and c both have 0.9750."
    alone = build_content("x", ground, entrants[:1], measures=["RR@10"])
    assert "nothing to compare" in alone.summary[1]
    with pytest.raises(CollectionError, match="nothing to compare"):
        build_content("x", ground, [], measures=["RR@10"])


def test_queries_without_results_are_told(tmp_path: Path) -> None:
    run = make_run([1] * 20, 1)
    del run["q4"]
    content = build_content("x", make_ground(tmp_path), [Entrant("a", run)], measures=["RR@10"])
    assert content.notes == ["a: 1 of 20 queries have no results and count 0."]
    assert content.systems.rows[0][1] == "0.9500"


def test_examples_say_where_the_relevant_document_stands(content: Content) -> None:
    assert [(a, b) for a, b, _ in content.examples] == [(STUDENT, CONTRASTIVE), (STUDENT, TEACHER)]
    example = content.examples[0][2][0]
    assert example.difference.query_id == "q1"
    (relevant,) = example.relevant
    assert (relevant.doc_id, relevant.rank_a, relevant.rank_b) == ("d1", 2, 3)
    assert example.difference.top_a[1].grade == 1


def test_the_page_holds_everything_and_nothing_breaks_out(content: Content, page: Path) -> None:
    text = page.read_text()
    seen = Seen(text)
    names = [tag for tag, _ in seen.tags]
    assert not {"script", "img", "link", "iframe", "object"} & set(names)
    assert not [attributes for _, attributes in seen.tags if {"src", "srcset", "onload"} & attributes.keys()]
    assert all(one["href"].startswith("#") for tag, one in seen.tags if tag == "a" and one["href"])
    policy = next(one["content"] for tag, one in seen.tags if tag == "meta" and one.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert EVIL in seen.words
    assert all(sentence in seen.words for sentence in content.summary)
    assert names.count("svg") == len(content.pictures) == names.count("figure")
    assert [one["scope"] for tag, one in seen.tags if tag == "th" and "scope" not in one] == []
    for tag, one in seen.tags:
        if tag == "svg":
            assert one["role"] == "img"
            assert len(one["aria-label"] or "") > 20
    assert len(text) < 1_000_000


def test_pictures_are_files_too(content: Content, page: Path) -> None:
    folder = page.parent / "compared_files"
    keys = [picture.key for picture in content.pictures]
    assert keys == ["latency", "margins", "scores-centred", "scores", "dev", "loss-0", "loss-1"]
    for key in keys:
        root = ElementTree.parse(folder / f"{key}.svg").getroot()
        drawn = [float(number) for one in root.iter() for number in (one.get("points") or "").replace(",", " ").split()]
        assert all(math.isfinite(number) for number in drawn)
        assert "prefers-color-scheme: dark" in (root[0].text or "")
    markdown = (page.parent / "compared.md").read_text()
    assert all(f"]({folder.name}/{key}.svg)" in markdown for key in keys)
    assert "<script>" not in markdown.partition("<details>")[0]


def test_markdown_is_escaped() -> None:
    assert in_markdown("a|b <c>\n*d*") == "a\\|b &lt;c&gt; \\*d\\*"


def test_long_curves_are_averaged() -> None:
    points = [(float(step), float(step % 2)) for step in range(3000)]
    few = thinned(points)
    assert len(few) == 150
    assert all(value == pytest.approx(0.5) for _, value in few)
    assert few[0][0] == pytest.approx(9.5)
    assert thinned(points[:150]) == points[:150]
