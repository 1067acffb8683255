"""Shared real parts at toy size: a collection folder and backbones made from a config and a seed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in item.path.relative_to(Path(__file__).parent).parts[:1]:
            item.add_marker(pytest.mark.cluster)


WORDS = """
    river stone garden window letter engine winter market silver forest bridge candle doctor pencil island mirror
    planet rocket basket copper desert feather hammer jungle kettle ladder magnet needle orange pepper quartz ribbon
""".split()  # noqa: SIM905 (a list of 32 strings is harder to read)


def write_folder(folder: Path, num_docs: int = 60, splits: dict[str, int] | None = None) -> Path:
    """A collection folder: documents of random words, queries made of words of their one relevant document."""
    rng = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    docs = [(f"d{i}", " ".join(rng.choices(WORDS, k=rng.randint(6, 24)))) for i in range(num_docs)]
    with (folder / "corpus.jsonl").open("w") as stream:
        for doc_id, text in docs:
            stream.write(json.dumps({"doc_id": doc_id, "title": "", "text": text}) + "\n")
    number = 0
    for split, count in (splits or {"train": 24, "dev": 8, "test": 8}).items():
        with (
            (folder / f"queries.{split}.jsonl").open("w") as queries,
            (folder / f"qrels.{split}.tsv").open("w") as qrels,
        ):
            for _ in range(count):
                doc_id, text = docs[number % num_docs]
                words = rng.sample(text.split(), 3)
                queries.write(json.dumps({"query_id": f"q{number}", "text": " ".join(words)}) + "\n")
                qrels.write(f"q{number}\t0\t{doc_id}\t1\n")
                number += 1
    return folder


def write_backbone(folder: Path, layers: int = 2) -> Path:
    """A tiny random BERT with a word-level tokenizer over WORDS, saved as Hugging Face does."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def collection_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="session")
def toy(collection_folder: Path, workspace: Path):
    """The materialised toy collection."""
    from stillhouse.collection import materialise

    folder = str(collection_folder)
    return materialise(CollectionSpec(train=folder, dev=folder, test=folder), 0, workspace)


@pytest.fixture(scope="session")
def toy_candidates(toy, workspace: Path):
    from stillhouse.candidates import candidates_for

    return candidates_for(CandidatesSpec(depth=12), toy, "train", workspace)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Makes an MLflow store in a folder and gives its URI; a new database takes seconds, a copy none."""
    from stillhouse.tracking.mlflow_tracker import open_client

    template = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    # MLflow's own experiment keeps its artifacts where the process stood when the database was made.
    with contextlib.chdir(template.parent):
        open_client(f"sqlite:///{template}").search_experiments()

    def copy(folder: Path) -> str:
        shutil.copy(template, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return copy
