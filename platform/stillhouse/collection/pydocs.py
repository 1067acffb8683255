"""The embedded collection `stillhouse/pydocs`: summary sentence -> the rest of its docstring.

Built at first use from what is installed, as a folder in the layout of `collection.folder`; the same files give the
same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.artifacts import cached_folder, file_digest, stable_hash
from stillhouse.collection.docstrings import STDLIB, Docstring, SourceFile, read_docstrings, source_files
from stillhouse.collection.near_duplicates import clusters
from stillhouse.errors import CollectionError

NAME = "stillhouse/pydocs"
PACKAGES = (STDLIB, "numpy", "pandas", "torch", "transformers")
SPLITS = {"train": 0.80, "dev": 0.08, "test": 0.12}
"""Share of the near-duplicate clusters' modules."""

_VERSION = 1
_QUERY_WORDS = range(4, 41)
_MIN_DOC_WORDS = 18
_MAX_JACCARD = 0.5
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_SENTENCE = re.compile(r".+?(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bcf)(?<!\betc)[.!?](?=\s+[^a-z\s]|\s*$)", re.DOTALL)
# Signatures `f(x) -> y`, parameters "x (`int`): ...", headings `Args:`, code and decoration.
_NO_SUMMARY = re.compile(
    r"[\w.\[\], ]+\(.*\)(\s*->.*)?$|\**`?\w+`?\**\s*\(.*?\)\s*:|\w+\s*:|>>>|[^\w`\"':*(\[]", re.DOTALL
)

_log = logging.getLogger(__name__)


class Pair(NamedTuple):
    doc_id: str
    module: str
    query: str
    doc: str


def build(packages: Sequence[str], root: Path) -> Path:
    """The folder with the collection of these packages, built below `root/pydocs` unless it is there.

    Facts (counts, skips by reason, versions, digest) stand in its `done.json`.
    """
    files = source_files(packages)
    folder = root / "pydocs" / _key(packages, files)
    if not (folder / "done.json").exists():
        _log.info("%s: reading the docstrings of %d files (%s)", NAME, len(files), ", ".join(packages))
    cached_folder(folder, lambda temporary: _write(temporary, packages, files))
    return folder


def facts(folder: Path) -> dict[str, Any]:
    """What `build` counted."""
    found: dict[str, Any] = json.loads((folder / "done.json").read_text())
    return found


def split_docstring(text: str) -> tuple[str, str] | None:
    """Summary sentence on one line, and the rest; None when the docstring does not begin with a sentence."""
    head, *rest = _PARAGRAPH.split(text.strip(), maxsplit=1)
    if _NO_SUMMARY.match(head):
        return None
    sentence = _SENTENCE.match(head)
    summary = sentence.group(0) if sentence else head
    body = "\n\n".join(part for part in (head[len(summary) :].strip(), *rest) if part)
    return " ".join(summary.split()), body.strip()


def pairs(docstrings: Iterable[Docstring], counts: Counter[str]) -> list[Pair]:
    """Docstrings with a usable summary and rest; an equal rest counts once. `counts` receives what is left out."""
    kept: dict[str, Pair] = {}
    for docstring in docstrings:
        counts["docstrings"] += 1
        parts = split_docstring(docstring.text)
        if parts is None:
            counts["without a summary sentence"] += 1
            continue
        query, doc = parts
        content = " ".join(doc.split())
        if len(query.split()) not in _QUERY_WORDS:
            counts["summary too short or long"] += 1
        elif len(content.split()) < _MIN_DOC_WORDS:
            counts["rest too short"] += 1
        elif not _is_unicode(query + doc):
            counts["lone surrogates"] += 1
        elif content in kept:
            counts["rest equal to another"] += 1
        else:
            kept[content] = Pair(docstring.name, docstring.module, query, doc)
    return list(kept.values())


def assign_splits(found: Sequence[Pair]) -> list[str]:
    """The split of each pair: by the module of the first document of its near-duplicate cluster.

    So near-twins never stand in two splits, and documents of one module seldom do.
    """
    return [_split_of(found[first].module) for first in clusters([pair.doc for pair in found], _MAX_JACCARD)]


def _split_of(module: str) -> str:
    point = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLITS.items():
        point -= share
        if point < 0:
            return split
    return split


def _write(folder: Path, packages: Sequence[str], files: Sequence[SourceFile]) -> dict[str, Any]:
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    found = pairs(read_docstrings(files, counts), counts)
    if not found:
        raise CollectionError(f"{NAME}: no usable docstring in packages {', '.join(packages)}; name more packages")
    splits = assign_splits(found)
    shared = Counter(pair.query.lower() for pair in found)
    _write_lines(folder / "corpus.jsonl", (_json(doc_id=pair.doc_id, text=pair.doc) for pair in found))
    for split in SPLITS:
        # A summary that several documents share has no one right answer: the documents stay, the query goes.
        chosen = [
            pair for pair, home in zip(found, splits, strict=True) if home == split and shared[pair.query.lower()] == 1
        ]
        counts[f"{split} queries"] = len(chosen)
        _write_lines(folder / f"queries.{split}.jsonl", (_json(query_id=_query_id(p), text=p.query) for p in chosen))
        _write_lines(folder / f"qrels.{split}.tsv", (f"{_query_id(p)}\t0\t{p.doc_id}\t1" for p in chosen))
    counts["documents"] = len(found)
    counts["summaries shared by several documents"] = sum(count for count in shared.values() if count > 1)
    for reason in ("files that do not parse", "lone surrogates"):
        if counts[reason]:
            _log.warning("%s: skipped: %d %s", NAME, counts[reason], reason)
    digest = stable_hash({path.name: file_digest(path) for path in sorted(folder.iterdir())}, 32)
    _log.info("%s: %d documents in %.1f s", NAME, len(found), time.perf_counter() - start)
    return {"digest": digest, "counts": dict(counts), "versions": _versions(packages)}


def _query_id(pair: Pair) -> str:
    return f"q:{pair.doc_id}"


def _json(**fields: str) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _key(packages: Sequence[str], files: Sequence[SourceFile]) -> str:
    """Changes with every file that is read: an editable install changes without its version."""
    stats = [(file.module, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.path.stat()]]
    return stable_hash([_VERSION, platform.python_version(), sorted(packages), stats])


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
