from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.evaluation.trec import write_run
from tests.contracts.report_pages import make_run, write_collection


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two run files and their collection, here."""
    monkeypatch.chdir(tmp_path)
    write_collection(tmp_path / "toy")
    write_run(Path("a.trec"), make_run([1] * 20, 1), "a")
    write_run(Path("b.trec"), make_run([2] * 20, 2), "b")
    return ["a.trec", "b.trec", "--collection", "toy", "--measures", "RR@10"]


def test_a_page_and_its_markdown(call, files: list[str]) -> None:
    done = call("report", *files, "-o", "out/compared.html")
    assert (done.status, done.err) == (0, "")
    assert "Winner: a with 1.0000 is +0.5000 above b (0.5000)" in done.out
    assert "The report is out/compared.html, as Markdown out/compared.md." in done.out
    assert "+0.5000" in Path("out/compared.html").read_text()
    assert "| b \N{MINUS SIGN} a | -0.5000 |" in Path("out/compared.md").read_text()
    assert Path("out/compared_files/margins.svg").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["-o", "page.pdf"], "call it page.html"),
        (["--measures", "nonsense@10"], "nonsense@10"),
        (["--reference", "c"], "no such ranker; there are a, b"),
        (["--split", "dev"], "queries.dev.jsonl"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(call, files: list[str], extra: list[str], message: str) -> None:
    done = call("report", *files, *extra)
    assert done.status == 1
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("report.html").exists()
