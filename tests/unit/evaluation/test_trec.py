from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from stillhouse.errors import CollectionError
from stillhouse.evaluation.trec import ranked, read_run, write_run


def test_ties_go_to_the_higher_document_id_as_in_trec_eval() -> None:
    assert ranked({"d1": 1.0, "d2": 2.0, "d10": 1.0, "d3": 1.0}) == ["d2", "d3", "d10", "d1"]


def test_scores_that_differ_beyond_single_precision_tie() -> None:
    # trec_eval reads scores as C floats, where 0.1 + 1e-12 is 0.1.
    assert ranked({"a": 0.1 + 1e-12, "b": 0.1}) == ["b", "a"]
    assert ranked({"a": 0.1 + 1e-6, "b": 0.1}) == ["a", "b"]


def test_written_lines(tmp_path: Path) -> None:
    write_run(tmp_path / "run.trec", {"q2": {"a": 0.5, "b": 1.5}, "q1": {"x": -2.0, "y": -2.0}}, "tag")
    assert (tmp_path / "run.trec").read_text() == (
        "q2 Q0 b 1 1.5 tag\nq2 Q0 a 2 0.5 tag\nq1 Q0 y 1 -2.0 tag\nq1 Q0 x 2 -2.0 tag\n"
    )


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_reading_back_gives_the_same_run(tmp_path: Path, name: str) -> None:
    scores = np.random.default_rng(0).normal(size=200).astype(np.float32)
    # Neighbours in single precision must stay apart.
    scores[1] = np.nextafter(scores[0], np.float32(np.inf))
    run = {"q": {f"d{row}": float(score) for row, score in enumerate(scores)}}
    write_run(tmp_path / name, run, "t")
    back = read_run(tmp_path / name)
    assert back == run
    assert ranked(back["q"]) == ranked(run["q"])


def test_equal_runs_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_run(tmp_path / name, {"q": {"d": 1.0}}, "t")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 1.0 t\nq Q0 e 2 0.5\n", "line 2: found 'q Q0 e 2 0.5'; expected six columns"),
        ("q Q0 d 1 high t\n", "line 1: found 'q Q0 d 1 high t'; expected six columns"),
        ("q Q0 d 1 nan t\n", "line 1: score nan is not finite"),
        ("q Q0 d 1 1.0 t\nq Q0 d 2 0.5 t\n", "line 2: document d stands twice for query q"),
        ("\n", "an empty run"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.trec"
    path.write_text(text)
    with pytest.raises(CollectionError, match=message) as raised:
        read_run(path)
    assert str(path) in str(raised.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"q Q0 d 1 1.0 t\n" * 1000)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(CollectionError, match="damaged gzip file"):
        read_run(tmp_path / "cut.gz")
    (tmp_path / "plain.gz").write_bytes(b"q Q0 d 1 1.0 t\n")
    with pytest.raises(CollectionError, match="damaged gzip file"):
        read_run(tmp_path / "plain.gz")
    (tmp_path / "latin").write_bytes(b"q Q0 d 1 1.0 t\nq Q0 caf\xe9 2 0.5 t\n")
    with pytest.raises(CollectionError, match="line 2: not UTF-8 at byte 23"):
        read_run(tmp_path / "latin")
    with pytest.raises(CollectionError, match="cannot be read: No such file"):
        read_run(tmp_path / "none")


def test_what_a_run_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    for run in ({"q 1": {"d": 1.0}}, {"q": {"": 1.0}}, {"q": {"d": float("nan")}}):
        with pytest.raises(CollectionError):
            write_run(tmp_path / "run", run, "t")
    assert list(tmp_path.iterdir()) == []
