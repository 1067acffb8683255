"""A collection named on the command line: one split with all its judgements."""

from __future__ import annotations

from pathlib import Path

from stillhouse.comparison.entrants import Ground
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec

SPLIT = "test"
"""What the one split is called in the materialised collection, whatever its own name is."""


def ground_named(ref: str, split: str, root: Path) -> Ground:
    """Texts and judgements of `ref`, an ir_datasets id or a folder; all judgements count, as trec_eval counts them."""
    from stillhouse.collection import materialise
    from stillhouse.collection.folder import FolderSource
    from stillhouse.collection.materialise import open_source

    packages = CollectionSpec.model_fields["packages"].default
    source = open_source(ref, split, packages, root)
    one = f"{ref}/{split}" if isinstance(source, FolderSource) and not ref.endswith(f"/{split}") else ref
    collection = materialise(CollectionSpec(train=one, dev=one, test=one), 0, root)
    qrels: dict[str, dict[str, int]] = {}
    for number, qrel in source.qrels():
        grades = qrels.setdefault(qrel.query_id, {})
        if grades.setdefault(qrel.doc_id, qrel.relevance) != qrel.relevance:
            raise CollectionError(
                f"{source.place('qrels', number)}: query {qrel.query_id}, document {qrel.doc_id} is judged twice; "
                "keep one"
            )
    return Ground(collection, SPLIT, qrels, one if one.endswith(f"/{split}") else f"{one} ({split})")
