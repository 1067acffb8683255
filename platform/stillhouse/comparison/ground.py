"""A collection named on the command line: one split with all its judgements."""

from __future__ import annotations

from pathlib import Path

from stillhouse.comparison.entrants import Ground
from stillhouse.recipe.tree import CollectionSpec

SPLIT = "test"
"""What the one split is called in the materialised collection, whatever its own name is."""


def ground_named(ref: str, split: str, root: Path) -> Ground:
    """Texts and judgements of `ref`, an ir_datasets id or a folder; all judgements count, as trec_eval counts them."""
    from stillhouse.collection import materialise
    from stillhouse.collection.judgements import all_qrels, ref_of_split, source_of_split

    one = ref_of_split(ref, split)
    qrels = all_qrels(source_of_split(one, split, root))
    collection = materialise(CollectionSpec(train=one, dev=one, test=one), 0, root)
    return Ground(collection, SPLIT, qrels, one if one.endswith(f"/{split}") else f"{one} ({split})")
