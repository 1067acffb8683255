"""`stillhouse/pydocs` as ids of ir_datasets, so that nothing downstream knows that it is special."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ir_datasets
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericDoc, GenericQrel, GenericQuery
from ir_datasets.indices import Docstore

from stillhouse.collection import pydocs
from stillhouse.collection.folder import FolderSource
from stillhouse.collection.ir_source import home


@cache
def _default_folder(root: Path) -> Path:
    return pydocs.build(pydocs.PACKAGES, root)


def _source(split: str) -> FolderSource:
    return FolderSource(_default_folder(home().absolute()), split)


class _Records(Iterator[Any]):
    """An iterator that also takes `[i]` and `[i:j]`, as those of ir_datasets do."""

    def __init__(self, records: Sequence[Any]) -> None:
        self._records = records
        self._rest = iter(records)

    def __next__(self) -> Any:
        return next(self._rest)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: int | slice) -> Any:
        found = self._records[key]
        return _Records(found) if isinstance(key, slice) else found


class _Docs(BaseDocs):  # type: ignore[misc]
    """pydocs with the default packages, built when first read."""

    def digest(self) -> str:
        """Identity of documents, queries and qrels of all splits."""
        return str(pydocs.facts(_default_folder(home().absolute()))["digest"])

    def docs_iter(self) -> _Records:
        return _Records([GenericDoc(*doc) for _, doc in _source("train").docs()])

    def docs_store(self, field: str = "doc_id") -> Docstore:
        return _Store(self.docs_iter(), field)

    def docs_count(self) -> int:
        return len(self.docs_iter())

    def docs_namespace(self) -> str:
        return pydocs.NAME

    def docs_lang(self) -> str:
        return "en"


class _Split(BaseQueries, BaseQrels):  # type: ignore[misc]
    def __init__(self, split: str) -> None:
        self._split = split

    def queries_iter(self) -> _Records:
        return _Records([GenericQuery(*query) for _, query in _source(self._split).queries()])

    def queries_count(self) -> int:
        return len(self.queries_iter())

    def queries_lang(self) -> str:
        return "en"

    def qrels_iter(self) -> _Records:
        return _Records([GenericQrel(*qrel) for _, qrel in _source(self._split).qrels()])

    def qrels_count(self) -> int:
        return len(self.qrels_iter())

    def qrels_defs(self) -> dict[int, str]:
        return {1: "the rest of the docstring that the query is the summary of"}


class _Store(Docstore):  # type: ignore[misc]
    """Documents by id, in memory: a pydocs is a few MB, and no pickle is written."""

    def __init__(self, docs: Iterable[GenericDoc], field: str) -> None:
        super().__init__(GenericDoc, field)
        self._docs = {getattr(doc, field): doc for doc in docs}

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[GenericDoc]:
        return (self._docs[doc_id] for doc_id in doc_ids if doc_id in self._docs)


def register() -> None:
    """Make `stillhouse/pydocs` and its splits known to ir_datasets."""
    docs = _Docs()
    parts = {pydocs.NAME: [docs]} | {f"{pydocs.NAME}/{split}": [docs, _Split(split)] for split in pydocs.SPLITS}
    for name, constituents in parts.items():
        if name not in set(ir_datasets.registry):
            ir_datasets.registry.register(name, ir_datasets.Dataset(*constituents))
