"""Rows with their lines, from every kind of file."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import CollectionError, FormatError
from stillhouse.imports.files import Files
from stillhouse.imports.json_array import elements

ROWS = [{"query": "caf\u00e9", "n": 1}, {"query": "b", "n": 2.5}, {"query": "", "n": None}]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def write(path: Path, data: bytes) -> Path:
    pack = {".gz": gzip.compress, ".zst": lambda plain: pa.compress(plain, "zstd", asbytes=True)}
    path.write_bytes(pack.get(path.suffix, bytes)(data))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.json"])
def test_lines_of_json_are_numbered_and_blank_ones_left_out(tmp_path: Path, name: str) -> None:
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\r\n"
    files = Files([write(tmp_path / name, text.encode())])
    found = list(files.objects(files.paths[0]))
    assert [(line, json.loads(raw)) for line, raw in found] == list(zip((1, 3, 5), ROWS, strict=True))
    assert files.read == files.total == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz", "rows.json.zst"])
def test_an_array_gives_elements_with_the_line_they_begin_on(tmp_path: Path, name: str) -> None:
    # With indent=1 an object of two fields takes four lines, and the bracket is on the first.
    files = Files([write(tmp_path / name, json.dumps(ROWS, indent=1).encode())])
    assert list(files.objects(files.paths[0])) == list(zip((2, 6, 10), ROWS, strict=True))


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_an_array_is_what_the_json_module_reads(
    values: list[object], chunk: int, indent: int | None, bom: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        return  # a lone surrogate is no UTF-8
    stream = io.BytesIO((b"\xef\xbb\xbf" if bom else b"") + text + b"\n")
    found = list(elements(Path("x.json"), stream, chunk))
    assert [value for _, value in found] == values
    lines = text.decode().split("\n")
    for line, value in found:
        head = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")[0]
        assert head in lines[line - 1]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a": 1}', "x.json:1: expected a JSON array, got '{\"a\": 1}'"),
        ('[{"a": 1}\n\n{"a": 2}]', "x.json:3: expected ',' or ']' after an element, got '{\"a\": 2}]'"),
        ('[{"a": 1},\n{"a" 2}]', "x.json:2: expected JSON, got: Expecting ':' delimiter"),
        ('[{"a": 1},\n]', "x.json:2: expected JSON, got: Expecting value"),
        ('[{"a": 1},\n\n', "x.json:3: expected JSON, got: Expecting value"),
        ('[{"a": "1', "x.json:1: expected JSON, got: Unterminated string starting at"),
        ("[1]\n[2]", "x.json:2: expected nothing after the array, got '[2]'"),
        ("[1", "x.json:1: expected ',' or ']' after an element, got 'the end of the file'"),
        (b'[\n"a", "\xff"]', "x.json:2: expected UTF-8, got byte 0xff"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_a_broken_array_is_told_with_its_line(text: str | bytes, error: str, chunk: int) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(FormatError) as caught:
        list(elements(Path("x.json"), io.BytesIO(data), chunk))
    assert str(caught.value) == error or error.startswith(str(caught.value)[:-1])


def test_tables_give_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    for name in ("rows.parquet", "rows.arrow"):
        files = Files([tmp_path / name])
        assert list(files.objects(files.paths[0])) == list(enumerate(ROWS, start=1))
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"bad.parquet: cannot be read as parquet: "):
        list(Files([tmp_path / "bad.parquet"]).objects(tmp_path / "bad.parquet"))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_damaged_file_is_told(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b'{"a": 1}\n' * 5000)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(CollectionError, match=r"rows.jsonl.\w+: damaged \w+ file .*; fetch or compress it again"):
        list(Files([path]).objects(path))


def test_pickle_is_refused_and_a_missing_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz", b"\x80\x04.")
    with pytest.raises(FormatError, match="pickle can run code and is not read; export it as TSV"):
        Files([path])
    with pytest.raises(FormatError, match=r"none\.tsv: no such file"):
        Files([tmp_path / "none.tsv"])
