"""What was judged in a split, as it stands in the source, and from which grade on it counts as relevant."""

from __future__ import annotations

import re
from pathlib import Path

from stillhouse.collection import local_data, pydocs
from stillhouse.collection.folder import FolderSource
from stillhouse.collection.ir_source import IrDatasetsSource, home, official_measures
from stillhouse.collection.materialise import open_source
from stillhouse.collection.source import Source
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec

FOLDER_RELEVANCE = {"msmarco_dl19": 2}
"""Folders of known test collections whose relevance does not begin at grade 1 (Craswell et al., arXiv:2003.07820)."""

MAX_CORPUS_BYTES = 2**28
"""Of a corpus file that is read to count unknown documents: a few seconds."""


def source_of_split(ref: str, split: str, root: Path | None = None) -> Source:
    """The source that a reference names, with the packages of `stillhouse/pydocs` as a recipe has them by default.

    `root` is where `stillhouse/pydocs` is built; None is where things are kept that no recipe names a place for.
    """
    return open_source(ref, split, CollectionSpec.model_fields["packages"].default, root or home())


def all_qrels(source: Source) -> dict[str, dict[str, int]]:
    """All judgements of a split: query id -> document id -> grade. CollectionError where two contradict."""
    qrels: dict[str, dict[str, int]] = {}
    for number, qrel in source.qrels():
        grades = qrels.setdefault(qrel.query_id, {})
        if grades.setdefault(qrel.doc_id, qrel.relevance) != qrel.relevance:
            raise CollectionError(
                f"{source.place('qrels', number)}: query {qrel.query_id}, document {qrel.doc_id} is judged twice; "
                "keep one"
            )
    return qrels


def document_ids(source: Source) -> set[str] | None:
    """Ids of a folder's documents; None where reading them takes long (a large corpus) or may download one."""
    if not isinstance(source, FolderSource) or source.paths["docs"].stat().st_size > MAX_CORPUS_BYTES:
        return None
    return {doc.doc_id for _, doc in source.docs()}


def relevance_of(source: Source) -> int:
    """The grade from which a document counts as relevant: 1, and 2 for the passages of TREC DL.

    For an id of ir_datasets it is what the library gives as the collection's official measures, e.g. `RR(rel=2)`;
    for a folder it is by the name of the folder (`FOLDER_RELEVANCE`).
    """
    if isinstance(source, FolderSource):
        return FOLDER_RELEVANCE.get(Path(source.folder).name, 1)
    if isinstance(source, IrDatasetsSource):
        levels = [int(level) for name in official_measures(source.ref) for level in re.findall(r"rel=(\d+)", name)]
        return max(levels, default=1)
    return 1


def ref_of_split(ref: str, split: str) -> str:
    """The reference that names one split by itself: a folder and `stillhouse/pydocs` get the split, others have one."""
    if ref == pydocs.NAME:
        return f"{ref}/{split}"
    path = local_data.find(ref) if local_data.names_one(ref) else Path(ref).expanduser()
    return f"{ref}/{split}" if path.is_dir() else ref
