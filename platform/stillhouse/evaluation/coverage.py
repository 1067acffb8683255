"""How far a run and the qrels speak of the same queries and documents."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from stillhouse.errors import CollectionError
from stillhouse.evaluation.measures import Qrels
from stillhouse.records import Run


@dataclass(frozen=True)
class Coverage:
    """What a user of trec_eval wants counted before believing a mean."""

    queries: int
    """Queries of the qrels: all of them are in the mean."""
    missing_queries: tuple[str, ...]
    """Of these, without results in the run: each counts 0."""
    other_queries: int
    """Queries of the run that the qrels do not have: left out."""
    unknown_documents: int
    """Results whose document is not in the collection; 0 where no documents were given."""

    def warnings(self) -> list[str]:
        """One sentence for each count that is not 0."""
        counts = (
            (len(self.missing_queries), f"of {self.queries} queries have no results and count 0"),
            (self.other_queries, "queries of the run are not in the qrels and are left out"),
            (self.unknown_documents, "results name documents that are not in the collection"),
        )
        return [f"{count} {what}" for count, what in counts if count]


def coverage(run: Run, qrels: Qrels, documents: Container[str] | None = None) -> Coverage:
    """Compare the ids of a run with the qrels, and with the collection's documents where given.

    CollectionError where they have no query in common: then they are of different collections.
    """
    common = run.keys() & qrels.keys()
    if not common:
        raise CollectionError(
            f"the run and the qrels have no query in common (run: {next(iter(run), 'empty')}, "
            f"qrels: {next(iter(qrels), 'empty')}); give the qrels of the run's collection and split"
        )
    unknown = 0
    if documents is not None:
        unknown = sum(doc_id not in documents for query_id in common for doc_id in run[query_id])
    missing = tuple(query_id for query_id in qrels if not run.get(query_id))
    return Coverage(len(qrels), missing, len(run.keys() - qrels.keys()), unknown)
