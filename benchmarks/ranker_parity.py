"""Every architecture against an independent implementation of the same scores, and what it costs to keep documents.

Runs in seconds on CPU with the extras `demo` and `dev`. `docs/rankers.md` is written from these rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reference_scores import causal_scores, library_scores, tk_scores
from stillhouse.rankers import RANKERS, Ranker
from stillhouse.rankers.backbones import load_tokenizer, quiet, resolve
from stillhouse.rankers.reps import Vectors

QUERIES = ["how do I sort a list", "naïve café opening hours", "who wrote the first compiler?"]
LONG = (
    "The first compiler was written by Grace Hopper between 1951 and 1952 for the A-0 System. It looked up subroutines "
    "by number on tape, put them together and ran the result, which we would call linking today. "
)
DOCS = [
    ["sorted(iterable) returns a new sorted list; list.sort() works in place.", "Cats sleep.", "x"],
    ["Das Café öffnet um acht. \N{HOT BEVERAGE}", "a list of opening hours " * 12, "שעות פתיחה"],
    [LONG * 3, "Nobody knows.", ""],
]
DOC_TOKENS = 200
"""Length of the document whose storage is stated."""


@dataclass(frozen=True)
class Row:
    """What the table says about one architecture."""

    key: str
    reference: str
    weights: str
    difference: float
    """Largest over all pairs and the options measured."""
    largest: float
    """Largest absolute score among them."""
    parameters: int
    storage: str
    """Bytes per kept document as a formula of D dimensions and L tokens; empty where none can be kept."""
    bytes: int

    @property
    def bound(self) -> float:
        """What the difference may be: float32 keeps 7 digits, and some thousand roundings cost two of them."""
        return 1e-5 * max(1.0, self.largest)


def rows() -> list[Row]:
    """One row for each architecture, in the order of RANKERS."""
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.random.fork_rng(devices=[]):
        return [measure(Path(folder)) for measure in MEASURES.values()]


def _scores(ranker: Ranker) -> torch.Tensor:
    scores_QK = ranker.score(QUERIES, DOCS)
    assert ranker.truncation.truncated == 0, "the references know no caps"
    return scores_QK


def _compare(ours: torch.Tensor, theirs: np.ndarray) -> tuple[float, float]:
    """Largest difference, and largest score."""
    found = ours.double().numpy()
    assert found.shape == theirs.shape
    assert np.isfinite(theirs).all()
    return float(np.abs(found - theirs).max()), float(np.abs(theirs).max())


def _minilm(key: str, **options: Any) -> Ranker:
    return RANKERS[key].from_backbone("minilm", seed=1, **options)


def _row(ranker: Ranker, reference: str, weights: str, found: list[tuple[float, float]], storage: str = "") -> Row:
    difference, largest = (max(values) for values in zip(*found, strict=True))
    parameters = sum(parameter.numel() for parameter in ranker.parameters())
    kept = _bytes(ranker) if ranker.separable else 0
    return Row(ranker.key, reference, weights, difference, largest, parameters, storage, kept)


def _bytes(ranker: Any) -> int:
    """Of one encoded document of `DOC_TOKENS` tokens, without padding."""
    with ranker.inference():
        reps = ranker.encode_docs([[1000] * DOC_TOKENS])
    if isinstance(reps, Vectors):
        return int(reps.mask_NL.sum()) * reps.values_NLD.shape[-1] * reps.values_NLD.element_size()
    return int(reps.numel() * reps.element_size())


def _library(
    kind: str, key: str, root: Path, options: list[dict[str, Any]]
) -> tuple[Ranker, list[tuple[float, float]]]:
    """Rankers saved and opened by a class of sentence-transformers; the first one is returned."""
    rankers = [_minilm(key, **chosen) for chosen in options]
    found = []
    for number, ranker in enumerate(rankers):
        path = root / f"{key}{number}"
        ranker.save_pretrained(path)
        found.append(_compare(_scores(ranker), library_scores(kind, path, QUERIES, DOCS)))
    return rankers[0], found


def cross_encoder(root: Path) -> Row:
    options = [{"pooling": pooling} for pooling in ("cls", "pooler")]
    ranker, found = _library("CrossEncoder", "cross_encoder", root, options)
    reference = "sentence-transformers `CrossEncoder`, identity activation; pooling cls and pooler"
    return _row(ranker, reference, "MiniLM", found)


def dual_encoder(root: Path) -> Row:
    headed = {"pooling": "cls", "projection_dim": 128, "output_layer_norm": True, "similarity": "cosine"}
    ranker, found = _library("SentenceTransformer", "dual_encoder", root, [{}, headed])
    reference = (
        "sentence-transformers `SentenceTransformer`: products of mean-pooled vectors, and cosines behind a head"
    )
    return _row(ranker, reference, "MiniLM", found, "4 D")


def colbert(root: Path) -> Row:
    plain = {"num_mask_tokens": 0, "aggregation": "mean"}
    original = {
        "projection_dim": 128,
        "similarity": "cosine",
        "mask_mode": "pad_to_length",
        "skip_punctuation": True,
        "query_marker": "[unused0]",
        "doc_marker": "[unused1]",
    }
    ranker, found = _library("MultiVectorEncoder", "colbert", root, [plain, original])
    reference = "sentence-transformers `MultiVectorEncoder`: products without MASK tokens, and the original's cosines"
    return _row(ranker, reference, "MiniLM", found, "4 D (L + 2)")


def prettr(root: Path) -> Row:
    joint = _minilm("prettr", num_separate_layers=0)
    split: Any = _minilm("prettr", num_separate_layers=3)
    found = [_compare(_scores(joint), _scores(_minilm("cross_encoder")).double().numpy())]
    queries, docs = split.tokenise(QUERIES), [split.tokenise(row) for row in DOCS]
    with split.inference():
        slots_QK = torch.arange(len(QUERIES) * 3).view(-1, 3)
        kept = split.encode_docs([ids for row in docs for ids in row])
        again = split.interact(split.encode_queries(queries), kept, slots_QK)
        # The whole pass of each pair, in a row of its own.
        whole = [
            [split.score_tokens([query], [[doc]])[0, 0] for doc in row]
            for query, row in zip(queries, docs, strict=True)
        ]
    found.append(_compare(again, np.array(whole, dtype=np.float64)))
    return _row(split, "b = 0: `cross_encoder`; b = 3: kept states, the whole pass", "MiniLM", found, "4 D (L + 1)")


def tk(root: Path) -> Row:
    ranker: Any = _minilm("tk")
    with torch.no_grad():
        ranker.alpha.fill_(0.3)
    theirs = [
        [tk_scores(ranker.state_dict(), 4, *ranker.tokenise([query, doc])) for doc in row]
        for query, row in zip(QUERIES, DOCS, strict=True)
    ]
    found = [_compare(_scores(ranker), np.array(theirs))]
    return _row(ranker, "the equation, in NumPy and float64", "MiniLM's word embeddings", found, "4 D L")


def _language_model(key: str, root: Path, config: Any) -> Row:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = root / config.model_type
    words = load_tokenizer(resolve("minilm")).backend_tokenizer
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    # Of the general class: transformers would read a BertTokenizer beside this config by other rules.
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    found = []
    for head in ("linear", "yes_no"):
        ranker: Any = RANKERS[key].from_backbone(str(folder), seed=1, head=head)
        weight = ranker.head.weight[0] if head == "linear" else None
        theirs = causal_scores(folder, QUERIES, DOCS, weight)
        found.append(_compare(_scores(ranker), theirs))
    reference = "transformers' own logits and last states, prompt by prompt without padding"
    return _row(ranker, reference, f"{config.model_type}, tiny, drawn from a seed", found)


def causal_lm(root: Path) -> Row:
    from transformers import Qwen3Config

    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen3Config(vocab_size=30522, intermediate_size=128, head_dim=16, **sizes)
    return _language_model("causal_lm", root, config)


def recurrent(root: Path) -> Row:
    from transformers import MambaConfig

    config = MambaConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=3, state_size=8)
    return _language_model("recurrent", root, config)


MEASURES: dict[str, Callable[[Path], Row]] = {
    "cross_encoder": cross_encoder,
    "dual_encoder": dual_encoder,
    "colbert": colbert,
    "prettr": prettr,
    "tk": tk,
    "causal_lm": causal_lm,
    "recurrent": recurrent,
}
assert MEASURES.keys() == RANKERS.keys()
