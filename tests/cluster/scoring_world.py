"""A collection, a teacher and pairs to score; as a script, a driver to be killed: python scoring_world.py JSON."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

from stillhouse.collection import Collection, materialise, open_collection
from stillhouse.errors import StoreError
from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.recipe.tree import CollectionSpec
from stillhouse.scores.files import address_of, place_of
from stillhouse.scores.identity import identity_of
from stillhouse.scores.pipeline import ScoreReport, score_pairs
from stillhouse.scores.store import ScoreStore

NUM_QUERIES, NUM_DOCS, DEPTH = 40, 300, 30
PAIRS_PER_SHARD = 20
IN_FLIGHT = 4 * PAIRS_PER_SHARD
"""Two actors, each with one shard under way and one waiting."""
WORDS = [f"w{number}" for number in range(150)]
PATIENCE_S = 3.0
"""How long a driver of these tests waits for a storage that is away."""


@dataclass(frozen=True)
class World:
    """A collection, a teacher and the pairs to score."""

    collection: Collection
    ranker_path: Path
    ranker: Ranker
    pairs: pa.Table

    def store(self, root: str | Path) -> ScoreStore:
        return ScoreStore(place_of(root, PATIENCE_S), identity_of(self.ranker, "float32"), partitions=4)

    def score(self, store: ScoreStore, pairs: pa.Table | None = None, **options: Any) -> ScoreReport:
        pairs = self.pairs if pairs is None else pairs
        options = {"shard_size": PAIRS_PER_SHARD, "dtype": "float32"} | options
        return score_pairs(store, self.ranker_path, self.collection, "train", pairs, **options)

    def driver(
        self, root: str | Path, *, environment: Mapping[str, str] | None = None, actors: int | None = 2
    ) -> subprocess.Popen[str]:
        """The same job in a process of its own, on the same cluster or on RAY_ADDRESS; prints `error: ...`."""
        arguments = {
            "root": address_of(place_of(root)) if isinstance(root, str) else str(root),
            "ranker": str(self.ranker_path),
            "collection": str(self.collection.path),
            "address": environment["RAY_ADDRESS"] if environment else ray.get_runtime_context().gcs_address,
            "actors": actors,
        }
        command = [sys.executable, "-m", "tests.cluster.scoring_world", json.dumps(arguments)]
        folder = Path(__file__).parents[2]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


def make_world(root: Path) -> World:
    ranker = RANKERS["cross_encoder"].from_backbone(
        str(_backbone(root / "backbone")), seed=3, query_max_length=8, doc_max_length=24
    )
    ranker.save_pretrained(root / "teacher")
    return World(_collection(root), root / "teacher", load_ranker(root / "teacher"), _pairs())


def rows_of(pairs: pa.Table) -> list[tuple[int, int]]:
    return list(zip(pairs["query_row"].to_pylist(), pairs["doc_row"].to_pylist(), strict=True))


def file_rows(store: ScoreStore) -> list[int]:
    """Rows of each file of a store in a folder."""
    return [pq.read_metadata(str(path)).num_rows for path in store.files()]


def _pairs() -> pa.Table:
    """DEPTH different documents for each query."""
    rows = [(q, (7 * q + 3 * j) % NUM_DOCS) for q in range(NUM_QUERIES) for j in range(DEPTH)]
    schema = pa.schema([("query_row", pa.int32()), ("doc_row", pa.int32())])
    return pa.table([[q for q, _ in rows], [d for _, d in rows]], schema=schema)


def _backbone(folder: Path) -> Path:
    set_seed(5)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = BertTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], specials, strict=True)),
    )
    config = BertConfig(
        vocab_size=len(specials) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _collection(root: Path) -> Collection:
    draw = random.Random(11)
    folder = root / "folder"
    folder.mkdir()

    def text(shortest: int, longest: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(shortest, longest)))

    docs = [{"doc_id": f"d{number}", "text": text(5, 40)} for number in range(NUM_DOCS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for split in ("train", "dev", "test"):
        queries = [{"query_id": f"{split}{number}", "text": text(2, 8)} for number in range(NUM_QUERIES)]
        (folder / f"queries.{split}.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
        qrels = "".join(f"{split}{number} 0 d{7 * number % NUM_DOCS} 1\n" for number in range(NUM_QUERIES))
        (folder / f"qrels.{split}.tsv").write_text(qrels)
    refs = {split: f"{folder}/{split}" for split in ("train", "dev", "test")}
    return materialise(CollectionSpec(**refs), 0, root)


def _main(arguments: dict[str, Any]) -> int:
    ray.init(address=arguments["address"], logging_level=logging.ERROR, log_to_driver=False)
    path = Path(arguments["ranker"])
    world = World(open_collection(Path(arguments["collection"])), path, load_ranker(path), _pairs())
    try:
        world.score(world.store(arguments["root"]), num_actors=arguments["actors"])
    except StoreError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
