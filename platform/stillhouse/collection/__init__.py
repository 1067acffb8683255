"""Collections: documents, queries and qrels from folders, ir_datasets and the embedded `stillhouse/pydocs`."""

from stillhouse.collection.ir_source import home, scoreddocs
from stillhouse.collection.materialise import known_reference, materialise, materialise_split
from stillhouse.collection.registration import register
from stillhouse.collection.texts import Collection, Split, Texts, open_collection
from stillhouse.collection.tokens import TokenIds, token_ids

__all__ = [
    "Collection",
    "Split",
    "Texts",
    "TokenIds",
    "home",
    "known_reference",
    "materialise",
    "materialise_split",
    "open_collection",
    "scoreddocs",
    "token_ids",
]

register()
