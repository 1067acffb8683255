"""`stillhouse/pydocs` as ids of ir_datasets, so that nothing downstream knows that it is special."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import ir_datasets
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericDoc, GenericQrel, GenericQuery
from ir_datasets.indices import Docstore

from stillhouse.collection import pydocs
from stillhouse.collection.folder import FolderSource
from stillhouse.collection.ir_source import home


@cache
def _default_folder(root: Path) -> Path:
    return pydocs.build(pydocs.PACKAGES, root)


class _Docs(BaseDocs):  # type: ignore[misc]
    """pydocs with the default packages, built when first read."""

    def digest(self) -> str:
        """Identity of documents, queries and qrels of all splits."""
        return str(pydocs.facts(_default_folder(home().absolute()))["digest"])

    def docs_iter(self) -> Iterator[GenericDoc]:
        for _, doc in self._source("train").docs():
            yield GenericDoc(*doc)

    def docs_store(self, field: str = "doc_id") -> Docstore:
        return _Store(list(self.docs_iter()), field)

    def docs_count(self) -> int:
        return sum(1 for _ in self.docs_iter())

    def docs_namespace(self) -> str:
        return pydocs.NAME

    def docs_lang(self) -> str:
        return "en"

    @staticmethod
    def _source(split: str) -> FolderSource:
        return FolderSource(_default_folder(home().absolute()), split)


class _Split(BaseQueries, BaseQrels):  # type: ignore[misc]
    def __init__(self, split: str) -> None:
        self._split = split

    def queries_iter(self) -> Iterator[GenericQuery]:
        for _, query in _Docs._source(self._split).queries():
            yield GenericQuery(*query)

    def queries_lang(self) -> str:
        return "en"

    def qrels_iter(self) -> Iterator[GenericQrel]:
        for _, qrel in _Docs._source(self._split).qrels():
            yield GenericQrel(*qrel)

    def qrels_defs(self) -> dict[int, str]:
        return {1: "the rest of the docstring that the query is the summary of"}


class _Store(Docstore):  # type: ignore[misc]
    """Documents by id, in memory: a pydocs is a few MB, and no pickle is written."""

    def __init__(self, docs: list[GenericDoc], field: str) -> None:
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
