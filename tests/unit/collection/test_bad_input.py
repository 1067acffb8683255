"""Each kind of bad input: one clear error that names file and line, or a counted and logged skip."""

from __future__ import annotations

import logging

import pytest

from stillhouse.collection import materialise
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec

LINE_1 = b'{"doc_id": "d1", "text": "cats purr"}\n'
CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.dev.jsonl", "qrels.dev.tsv"


@pytest.fixture
def read(make_folder, spec_of, tmp_path):
    return lambda **parts: materialise(spec_of(make_folder(**parts)), 0, tmp_path / "root")


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        (
            CORPUS,
            LINE_1 + b'{"doc_id": "d1", "text": "x"}\n',
            r"corpus\.jsonl, line 2: document d1 stands",
        ),
        (CORPUS, LINE_1 + b"{not json\n", r"corpus\.jsonl, line 2: not JSON .*doc_id, text"),
        (
            CORPUS,
            LINE_1 + b'["d2", "x"]\n',
            r"corpus\.jsonl, line 2: found a JSON list; expected",
        ),
        (CORPUS, LINE_1 + b'{"doc_id": 2, "text": "x"}\n', r"corpus\.jsonl, line 2: doc_id is 2; expected"),
        (CORPUS, LINE_1 + b'{"doc_id": "d2"}\n', r"corpus\.jsonl, line 2: text is None; expected"),
        (CORPUS, b'{"doc_id": "d1", "text": "x", "title": 3}\n', r"corpus\.jsonl, line 1: title is 3"),
        (
            CORPUS,
            LINE_1 + b'{"doc_id": "d 2", "text": "x"}\n',
            r"line 2: the id 'd 2' .*white space",
        ),
        (CORPUS, LINE_1 + b'{"doc_id": "", "text": "x"}\n', r"corpus\.jsonl, line 2: the id '' is empty"),
        (
            CORPUS,
            LINE_1 + b'{"doc_id": "d2", "text": "\\ud800"}\n',
            r"line 2: 'd2' has a lone surrogate",
        ),
        (CORPUS, b'{"doc_id": "d1", "text": " "}\n', r"no document has a text"),
        # LINE_1 has 38 bytes, the bad one is the 28th (from 0: 27) of the second line.
        (
            CORPUS,
            LINE_1 + b'{"doc_id": "d2", "text": "f\xfcr"}\n',
            r"corpus.*, line 2: not UTF-8 at byte 65 .*0xfc",
        ),
        (
            "queries.dev.jsonl",
            b'{"query_id": "q3", "text": "a"}\n' * 2,
            r"queries\.dev\.jsonl, line 2: query q3 stands",
        ),
        (QUERIES, b'{"query_id": "q3", "text": ""}\n', r"no query has a text"),
        (QRELS, b"q3 0 d3 1\nq3 d3 1\n", r"qrels\.dev\.tsv, line 2: found 'q3 d3 1'; expected four columns"),
        (QRELS, b"query-id\tcorpus-id\tscore\n", r"qrels\.dev\.tsv, line 1: .*expected four columns"),
        (QRELS, b"q3 0 d3 good\n", r"qrels\.dev\.tsv, line 1: .*grade \(an integer\)"),
        (QRELS, b"q3 0 d3 99999999999\n", r"qrels\.dev\.tsv, line 1: grade 99999999999 is out of range"),
        (QRELS, b"q3 0 d3 1\nq3 0 d3 2\n", r"qrels\.dev\.tsv, line 2: .*judged 2, before it was judged 1"),
        (QRELS, b"q3 0 x9 1\n", r"of 1 judgements none names a known document, the first is x9"),
        (QRELS, b"q9 0 d3 1\n", r"its qrels name no known query, for example q9"),
        (QRELS, b"q3 0 d3 0\n", r"no query has a text and a document judged above 0"),
        (QRELS, b"", r"has no qrels"),
    ],
)
def test_what_cannot_be_used_is_named(read, file, data, message):
    with pytest.raises(CollectionError, match=message):
        read(raw={file: data})


def test_damaged_gzip(make_folder, spec_of, tmp_path):
    folder = make_folder(gz=True)
    path = folder / "corpus.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(CollectionError, match=r"corpus\.jsonl\.gz: damaged gzip file"):
        materialise(spec_of(folder), 0, tmp_path / "root")


def test_a_missing_split_says_what_is_there(make_folder, spec_of, tmp_path):
    folder = make_folder()
    (folder / "queries.dev.jsonl").unlink()
    with pytest.raises(CollectionError, match=r"no queries\.dev\.jsonl .*found queries\.test\.jsonl, queries\.train"):
        materialise(spec_of(folder), 0, tmp_path / "root")


def test_a_reference_to_nothing(tmp_path):
    spec = CollectionSpec(train="beir/scifakt", dev="beir/scifakt", test="beir/scifakt")
    with pytest.raises(CollectionError, match=r"neither a folder nor an ir_datasets id; did you mean beir/scifact\?"):
        materialise(spec, 0, tmp_path)
    with pytest.raises(CollectionError, match="no such split; stillhouse/pydocs has train, dev, test"):
        materialise(CollectionSpec(train="stillhouse/pydocs/x", dev="x", test="x"), 0, tmp_path)


def test_nothing_is_left_behind_after_an_error(read, tmp_path):
    with pytest.raises(CollectionError):
        read(raw={"qrels.test.tsv": b"q4 0 d1\n"})
    assert list((tmp_path / "root" / "collections").iterdir()) == []


def test_what_can_be_left_out_is_counted_and_logged(read, caplog):
    with caplog.at_level(logging.WARNING, logger="stillhouse"):
        collection = read(
            docs=[("d1", "cats purr"), ("d2", "dogs bark"), ("d3", "fish swim"), ("d4", " ")],
            queries={"train": [("q1", "purrs"), ("q2", "barks"), ("q6", ""), ("q7", "unjudged"), ("q8", "only zero")]},
            qrels={
                "train": [
                    *[("q1", "d1", 1), ("q1", "d1", 1), ("q2", "d2", 1), ("q2", "x1", 1), ("q2", "x2", 1)],
                    *[("q6", "d1", 1), ("q8", "d1", 0), ("q9", "d1", 1)],
                ]
            },
        )
    counts = collection.facts["counts"]
    assert counts["docs"] == {"documents": 4, "empty documents": 1}
    assert counts["train"] == {
        "qrels": 8,
        "qrels of unknown documents": 2,
        "qrels given twice": 1,
        "qrels of unknown queries": 1,
        "empty queries": 1,
        "queries without qrels": 1,
        "queries without positives": 1,
        "queries": 2,
        "qrels kept": 2,
        "positives": 2,
    }
    assert list(collection.splits["train"].queries.ids) == ["q1", "q2"]
    logged = caplog.text
    assert "(train): 2 qrels of unknown documents, skipped" in logged
    assert "the first unknown document in qrels is x1 (" in logged
    assert "1 empty documents, kept, but no search finds them" in logged
    for reason in ("empty queries", "queries without qrels", "queries without positives", "qrels of unknown queries"):
        assert f"1 {reason}, skipped" in logged


def test_byte_order_mark_and_blank_lines_are_no_trouble(read):
    data = b"\xef\xbb\xbf" + LINE_1 + b'\n{"doc_id": "d2", "text": "b"}\r\n{"doc_id": "d3", "text": "c"}'
    collection = read(raw={CORPUS: data})
    assert list(collection.docs.ids) == ["d1", "d2", "d3"]
    assert collection.docs.text(1) == "b"
