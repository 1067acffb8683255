from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from stillhouse.collection import materialise, pydocs
from stillhouse.collection.docstrings import SourceFile, read_docstrings, source_files
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec

# Small, and full of near copies: numpy.polynomial says the same of six bases.
PACKAGES = ("numpy.polynomial", "asyncio", "unittest", "email")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pydocs.build(PACKAGES, tmp_path_factory.mktemp("pydocs"))


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_query_is_the_summary_and_its_document_the_rest(folder):
    docs = {row["doc_id"]: row["text"] for row in _rows(folder / "corpus.jsonl")}
    rows = [row for split in pydocs.SPLITS for row in _rows(folder / f"queries.{split}.jsonl")]
    queries = {row["query_id"]: row["text"] for row in rows}
    # The other way to a docstring: import the module and ask it.
    summary, rest = inspect.getdoc(asyncio.wait_for).split("\n\n", 1)
    assert queries["q:asyncio.tasks.wait_for"] == summary
    assert docs["asyncio.tasks.wait_for"] == rest.strip()


def test_each_query_has_one_document_and_every_text_is_there_once(folder):
    docs = _rows(folder / "corpus.jsonl")
    judged = []
    for split in pydocs.SPLITS:
        queries = _rows(folder / f"queries.{split}.jsonl")
        qrels = [line.split("\t") for line in (folder / f"qrels.{split}.tsv").read_text().splitlines()]
        assert [query["query_id"] for query in queries] == [fields[0] for fields in qrels]
        assert {(zero, grade) for _, zero, _, grade in qrels} == {("0", "1")}
        judged += [fields[2] for fields in qrels]
        assert queries
    assert len(set(judged)) == len(judged)
    assert set(judged) <= {doc["doc_id"] for doc in docs}
    for field in ("doc_id", "text"):
        assert len({doc[field] for doc in docs}) == len(docs)


def test_lengths_are_in_bounds_and_counts_add_up(folder):
    counts = pydocs.facts(folder)["counts"]
    docs = _rows(folder / "corpus.jsonl")
    assert min(len(doc["text"].split()) for doc in docs) >= 18
    for split in pydocs.SPLITS:
        queries = _rows(folder / f"queries.{split}.jsonl")
        assert counts[f"{split} queries"] == len(queries)
        assert all(4 <= len(query["text"].split()) <= 40 for query in queries)
    reasons = ("without a summary sentence", "summary too short or long", "rest too short", "rest equal to another")
    assert counts["docstrings"] == len(docs) + sum(counts[reason] for reason in reasons)
    queries = sum(counts[f"{split} queries"] for split in pydocs.SPLITS)
    assert len(docs) == queries + counts["summaries shared by several documents"]


def test_no_near_twin_crosses_the_splits(folder):
    docs = {row["doc_id"]: row["text"] for row in _rows(folder / "corpus.jsonl")}

    def grams(text):  # another way than the code under test: sets of word tuples, all pairs
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}

    members = {}
    for split in pydocs.SPLITS:
        for line in (folder / f"qrels.{split}.tsv").read_text().splitlines():
            doc_id = line.split("\t")[2]
            members[doc_id] = (split, grams(docs[doc_id]))
    twins = Counter()
    for (left_split, left), (right_split, right) in itertools.combinations(members.values(), 2):
        if len(left & right) >= 0.5 * len(left | right):
            twins[left_split == right_split] += 1
    assert twins[True] > 20  # there is something to keep apart
    assert twins[False] == 0


def test_the_same_files_give_the_same_bytes_whatever_the_hash_seed(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from stillhouse.collection import pydocs\n"
        f"print(pydocs.facts(pydocs.build({PACKAGES!r}, Path(sys.argv[1])))['digest'])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert other == pydocs.facts(folder)["digest"]


def test_a_second_build_reads_no_docstring(folder, monkeypatch):
    monkeypatch.setattr(pydocs, "read_docstrings", lambda *_: pytest.fail("built again"))
    assert pydocs.build(PACKAGES, folder.parent.parent) == folder


def test_a_recipe_uses_it_like_any_collection(folder):
    spec = CollectionSpec(
        train="stillhouse/pydocs/train", dev="stillhouse/pydocs/dev", test="stillhouse/pydocs", packages=PACKAGES
    )
    collection = materialise(spec, 0, folder.parent.parent)
    counts = pydocs.facts(folder)["counts"]
    assert {name: len(split.queries) for name, split in collection.splits.items()} == {
        name: counts[f"{name} queries"] for name in pydocs.SPLITS
    }
    assert collection.facts["sources"]["test"]["digest"] == pydocs.facts(folder)["digest"]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Add two.  More, e.g. this one.\n\nArgs: x", ("Add two.", "More, e.g. this one.\n\nArgs: x")),
        ("Compute e.g. the sum\nof all parts.\n\nDone.", ("Compute e.g. the sum of all parts.", "Done.")),
        ("No stop at the end\n\nBody.\n\nMore.", ("No stop at the end", "Body.\n\nMore.")),
        ("Uses version 1.5 of it. Then ends.", ("Uses version 1.5 of it.", "Then ends.")),
        ("get(key) -> value\n\nBody", None),
        ("input_ids (`torch.LongTensor` of shape `(1, 2)`):\n    Indices.", None),
        ("Args:\n    x: y", None),
        (">>> f(1)", None),
    ],
)
def test_where_the_summary_ends(docstring, expected):
    assert pydocs.split_docstring(docstring) == expected


def test_public_definitions_are_found_without_running_anything(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        'raise SystemExit("never run")\n'
        'def f():\n    """F."""\n    def inner():\n        """Hidden."""\n'
        'def _private():\n    """Private."""\n'
        'if True:\n    async def g():\n        """G."""\n'
        'class C:\n    """C."""\n    def m(self):\n        """M.\n\n            Indented."""\n'
        '    def __len__(self):\n        """Special."""\n'
        'def f():\n    """F again."""\n'
    )
    counts = Counter()
    found = read_docstrings([SourceFile("pkg.module", file)], counts)
    assert [(d.name, d.text) for d in found] == [
        ("pkg.module.C", "C."),
        ("pkg.module.C.m", "M.\n\nIndented."),
        ("pkg.module.f", "F."),
        ("pkg.module.g", "G."),
    ]
    assert counts == {"files": 1, "names defined again": 1}


def test_files_that_do_not_parse_or_decode_are_counted(tmp_path):
    sources = {"syntax": b'def f(:\n """x"""', "bytes": b'"""\xff\xfe"""', "null": b'"""\0"""'}
    sources["good"] = b'def f():\n """F."""'
    files = [SourceFile("gone", tmp_path / "gone.py")]
    for name, data in sources.items():
        files.append(SourceFile(name, tmp_path / f"{name}.py"))
        files[-1].path.write_bytes(data)
    counts = Counter()
    assert [docstring.name for docstring in read_docstrings(files, counts)] == ["good.f"]
    assert counts == {"files": 5, "files that do not parse": 4}


def test_the_standard_library_is_without_tests_and_site_packages():
    modules = {file.module for file in source_files(("stdlib",))}
    assert {"json", "json.decoder", "email.message", "statistics"} <= modules
    assert not {name for name in modules if "test" in name.split(".") or "tests" in name.split(".") or "numpy" in name}


def test_packages_are_found_without_being_imported():
    code = "import sys; from stillhouse.collection.docstrings import source_files\n"
    code += "print(len(source_files(('torch.nn', 'transformers.utils'))), 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    number, imported = printed.split()
    assert int(number) > 100
    assert imported == "False"


@pytest.mark.parametrize(
    ("package", "message"), [("no_such_package", "is not installed"), ("sys", "has no Python source")]
)
def test_a_package_that_cannot_be_read_is_named(package, message, tmp_path):
    with pytest.raises(CollectionError, match=f"collection.packages: {package} {message}"):
        pydocs.build((package,), tmp_path)
