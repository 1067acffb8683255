"""Any id of ir_datasets as a source."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stillhouse.errors import CollectionError
from stillhouse.records import Doc, Qrel, Query, ScoredDoc


def home() -> Path:
    """Where things are kept that no recipe names a place for: `STILLHOUSE_HOME`, else `.stillhouse`."""
    return Path(os.environ.get("STILLHOUSE_HOME", ".stillhouse"))


if "IR_DATASETS_HOME" not in os.environ and not Path("~/.ir_datasets").expanduser().exists():
    # ir_datasets makes its folders when imported; who does not use it already finds nothing new in the home folder.
    os.environ["IR_DATASETS_HOME"] = str((home() / "ir_datasets").absolute())

import ir_datasets  # noqa: E402


class IrDatasetsSource:
    """One ir_datasets id; see `collection.source.Source`. Its content is what the id and the library's version say."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self._dataset = load(ref)
        for kind in ("docs", "queries", "qrels"):
            if not self._dataset.has(kind):
                raise CollectionError(f"{ref}: has no {kind}; choose an id with docs, queries and qrels")
        self.docs_key = ir_datasets.docs_parent_id(ref)

    def identity(self) -> dict[str, Any]:
        return {"ir_datasets": self.ref, "version": ir_datasets.__version__}

    def facts(self) -> dict[str, Any]:
        return self.identity()

    def docs(self) -> Iterator[tuple[int, Doc]]:
        for number, doc in self._numbered(self._dataset.docs_iter()):
            yield number, Doc(doc.doc_id, doc.default_text().strip())

    def queries(self) -> Iterator[tuple[int, Query]]:
        for number, query in self._numbered(self._dataset.queries_iter()):
            yield number, Query(query.query_id, query.default_text().strip())

    def qrels(self) -> Iterator[tuple[int, Qrel]]:
        for number, qrel in self._numbered(self._dataset.qrels_iter()):
            yield number, Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance))

    def place(self, kind: str, number: int) -> str:
        return f"{self.ref}, record {number} of its {kind}"

    def _numbered(self, records: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        try:
            yield from enumerate(records, start=1)
        except (OSError, RuntimeError) as error:  # downloads that fail, licences not agreed to
            raise CollectionError(f"{self.ref}: ir_datasets cannot read it: {error}") from error


def load(ref: str) -> Any:
    """The ir_datasets dataset of an id; CollectionError when there is none."""
    try:
        return ir_datasets.load(ref)
    except KeyError:
        close = difflib.get_close_matches(ref, list(ir_datasets.registry), n=1)
        hint = f"did you mean {close[0]}?" if close else "give a folder with corpus.jsonl, or an id of ir_datasets"
        raise CollectionError(f"{ref}: neither a folder nor an ir_datasets id; {hint}") from None


def scoreddocs(ref: str) -> Iterator[ScoredDoc]:
    """The first-stage scores that come with an ir_datasets id."""
    dataset = load(ref)
    if not dataset.has("scoreddocs"):
        raise CollectionError(f"{ref}: has no scoreddocs; use candidates.source bm25 or a run file")
    for row in dataset.scoreddocs_iter():
        yield ScoredDoc(row.query_id, row.doc_id, float(row.score))


def official_measures(ref: str) -> list[str]:
    """What the organisers of a collection measured, as ir_measures names; empty where ir_datasets does not say."""
    return [str(measure) for measure in (load(ref).documentation() or {}).get("official_measures", ())]
