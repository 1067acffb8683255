"""What the speed benchmarks read: pairs of `pydocs`, a trained cross-encoder, models of random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillhouse.candidates import Candidates, candidates_for
from stillhouse.collection import Collection, materialise
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.backbones import load_tokenizer, resolve
from stillhouse.recipe.tree import CandidatesSpec, CollectionSpec, EvaluationSpec, ScaleSpec, StageSpec
from stillhouse.training.job import TrainingJob
from stillhouse.training.run import run_job

QUERY_CAP, DOC_CAP = 32, 221
"""With three special tokens at most 256 in a pair."""


@dataclass(frozen=True)
class Data:
    collection: Collection
    candidates: dict[str, Candidates]
    workspace: Path

    def pairs(self, split: str, count: int, depth: int) -> tuple[list[str], list[list[str]], list[int]]:
        """The first `count` queries of a split, their candidates' texts, and their rows; cut so that no side cuts."""
        queries = self.collection.splits[split].queries
        rows = [row for row in range(len(queries)) if len(self.candidates[split].rows(row))][:count]
        docs = [self.candidates[split].rows(row)[:depth].tolist() for row in rows]
        cut_query = cut(queries.texts(rows), QUERY_CAP)
        distinct = sorted({doc for row in docs for doc in row})
        text_of = dict(zip(distinct, cut(self.collection.docs.texts(distinct), DOC_CAP), strict=True))
        return cut_query, [[text_of[doc] for doc in row] for row in docs], rows


def cut(texts: list[str], cap: int) -> list[str]:
    """Each text up to the end of its token number `cap`, so that every library reads the same tokens."""
    backend = load_tokenizer(resolve("minilm")).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    return [
        text if len(encoding.ids) <= cap else text[: encoding.offsets[cap - 1][1]]
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def open_data(workspace: Path, *, small: bool) -> Data:
    """`pydocs` with BM25 candidates; small: the standard library's docstrings alone, few queries."""
    spec = CollectionSpec(
        train="stillhouse/pydocs/train",
        dev="stillhouse/pydocs/dev",
        test="stillhouse/pydocs/test",
        max_train_queries=64 if small else 1400,
        max_dev_queries=16 if small else 200,
        max_test_queries=16,
        packages=("stdlib",) if small else ("stdlib", "numpy", "pandas", "torch", "transformers"),
    )
    collection = materialise(spec, 0, workspace)
    depth = CandidatesSpec(depth=30)
    found = {split: candidates_for(depth, collection, split, workspace) for split in ("train", "dev")}
    return Data(collection, found, workspace)


def training_job(
    data: Data, ranker: dict[str, Any], stage: dict[str, Any], *, seed: int = 0, **scale: Any
) -> TrainingJob:
    """A training on the labels of `data`."""
    kind = RANKERS[ranker["ranker"]].spec_class
    return TrainingJob(
        ranker=kind.model_validate(ranker).model_dump(mode="json"),
        stages={"train": StageSpec.model_validate(stage).model_dump(mode="json")},
        seed=seed,
        evaluation=EvaluationSpec(depth=30, measures=("nDCG@10",)).model_dump(mode="json"),
        scale=ScaleSpec(**scale).model_dump(mode="json"),
        candidates=CandidatesSpec(depth=30).model_dump(mode="json"),
        collection=str(data.collection.path),
        collection_digest=data.collection.digest,
        workspace=str(data.workspace),
    )


def trained_cross_encoder(data: Data, steps: int) -> Path:
    """A MiniLM cross-encoder that reads the first token, trained on the labels for some steps; made once."""
    ranker = {
        "ranker": "cross_encoder",
        "backbone": "minilm",
        "query_max_length": QUERY_CAP,
        "doc_max_length": DOC_CAP,
        "freeze_word_embeddings": True,
    }
    stage = {
        "loss": {"name": "contrastive"},
        "groups": {"strategy": "random", "num_negatives": 3},
        "optimizer": {"learning_rate": 1.0e-4, "head_learning_rate": 1.0e-3},
        "max_steps": steps,
        "queries_per_step": 16,
        "evaluations": 1,
        "epochs": 3,
    }
    job = training_job(data, ranker, stage)
    folder = data.workspace / "speed" / job.key
    if not (folder / "ranker.json").exists():
        run_job(job, data.workspace / "speed" / f"{job.key}-checkpoints", lambda metrics, step: None, folder)
    return folder


def bert_base(folder: Path, layers: int = 12) -> Path:
    """Random weights in the shape of BERT-base, with MiniLM's tokenizer (BERT's uncased words)."""
    from transformers import AutoModel, BertConfig

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        config = BertConfig(num_hidden_layers=layers)
        AutoModel.from_config(config).save_pretrained(folder)
        load_tokenizer(resolve("minilm")).save_pretrained(folder)
    return folder


def open_for(folder: Path, dtype: torch.dtype) -> Any:
    """A saved ranker as the scoring actors open it."""
    return load_ranker(folder).for_scoring(dtype)
