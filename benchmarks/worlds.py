"""Synthetic texts and random backbones of any size: growth and overhead do not depend on what the words mean."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa

from stillhouse.collection import Collection, materialise
from stillhouse.recipe.tree import CollectionSpec

WORDS = 30_000


def write_collection(
    root: Path, docs: int, queries: int, doc_words: tuple[int, int] = (8, 24), query_words: tuple[int, int] = (2, 6)
) -> Collection:
    """A collection of random words, the frequent ones Zipf-like; each train query has one positive.

    Lengths are drawn evenly from the two bounds. dev and test hold ten queries each.
    """
    draw = np.random.default_rng(0)
    folder = root / "folder"
    folder.mkdir(parents=True)

    def texts(count: int, bounds: tuple[int, int]) -> list[str]:
        lengths = draw.integers(bounds[0], bounds[1] + 1, count)
        # The square of an even number: half of all words come from the first quarter of the vocabulary.
        words = (draw.random(int(lengths.sum())) ** 2 * WORDS).astype(np.int64).tolist()
        ends = np.cumsum(lengths).tolist()
        return [
            " ".join(f"w{word}" for word in words[end - length : end])
            for end, length in zip(ends, lengths.tolist(), strict=True)
        ]

    with (folder / "corpus.jsonl").open("w") as stream:
        for start in range(0, docs, 100_000):
            for row, text in enumerate(texts(min(100_000, docs - start), doc_words), start):
                stream.write(json.dumps({"doc_id": f"d{row}", "text": text}) + "\n")
    for split, count in (("train", queries), ("dev", 10), ("test", 10)):
        rows = [{"query_id": f"{split}{row}", "text": text} for row, text in enumerate(texts(count, query_words))]
        (folder / f"queries.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        qrels = "".join(f"{split}{row} 0 d{row * 7 % docs} 1\n" for row in range(count))
        (folder / f"qrels.{split}.tsv").write_text(qrels)
    refs = {split: f"{folder}/{split}" for split in ("train", "dev", "test")}
    return materialise(CollectionSpec(**refs), 0, root)


def pairs_of(queries: int, docs: int, depth: int) -> pa.Table:
    """`depth` different documents for each query, as `score_pairs` takes them."""
    query_rows = np.repeat(np.arange(queries, dtype=np.int32), depth)
    # Steps of one stride from a start of the query's own: different as long as depth is less than docs.
    start = np.asarray([random.Random(row).randrange(docs) for row in range(queries)], np.int64)
    doc_rows = (start[:, None] + np.arange(depth)) % docs
    return pa.table({"query_row": query_rows, "doc_row": doc_rows.reshape(-1).astype(np.int32)})


def write_teacher(folder: Path, shape: dict[str, int], query_max_length: int, doc_max_length: int) -> Path:
    """A saved cross-encoder of random weights on a BERT of that shape; one word is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

    from stillhouse.rankers import RANKERS

    set_seed(0)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*specials, *(f"w{word}" for word in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], specials, strict=True))
    BertTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "backbone")
    config = BertConfig(vocab_size=len(vocabulary), **shape)
    BertModel(config).save_pretrained(folder / "backbone")
    caps = {"query_max_length": query_max_length, "doc_max_length": doc_max_length}
    ranker = RANKERS["cross_encoder"].from_backbone(str(folder / "backbone"), **caps)
    ranker.save_pretrained(folder / "teacher")
    return folder / "teacher"


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
