"""Dev candidates scored inside a training: the two ways agree, and one of them reads a shared document once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.rankers import RANKERS
from stillhouse.rankers.base import Ranker
from stillhouse.recipe.tree import EvaluationSpec
from stillhouse.training import dev
from stillhouse.training.job import TrainingData, load_data
from tests.contracts.training_jobs import STAGE, toy_job

SPEC = EvaluationSpec(depth=6)


def opened(kind: str, toy: Any, workspace: Path, backbone: Path) -> tuple[Ranker, TrainingData]:
    ranker = RANKERS[kind].from_backbone(str(backbone), seed=2, query_max_length=8, doc_max_length=16)
    return ranker, load_data(
        toy_job(toy, workspace, backbone, {"a": STAGE | {"loss": {"name": "contrastive"}}}), ranker
    )


@pytest.mark.parametrize("kind", ["dual_encoder", "colbert"])
@pytest.mark.parametrize("size", [1, dev.QUERIES_PER_FORWARD])
def test_equal_forwards_and_whole_chunks_give_the_same_scores(kind, size, toy, workspace, backbone) -> None:
    ranker, data = opened(kind, toy, workspace, backbone)
    part = dev.dev_part(data)
    ranker.train()
    whole = dev.documents_once(ranker, data, part, SPEC, size)
    equal = dev.equal_forwards(ranker, ranker, data, part, SPEC, torch.device("cpu"), 4)
    assert ranker.training
    assert [row for row, _ in whole] == [row for row, _ in equal] == list(part.query_rows)
    for (_, ours), (_, theirs) in zip(whole, equal, strict=True):
        assert len(ours) == 6
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_document_of_several_queries_is_encoded_once(toy, workspace, backbone, monkeypatch) -> None:
    ranker, data = opened("dual_encoder", toy, workspace, backbone)
    encoded = []
    encode = ranker.encode_docs

    def counting(docs, **options):
        encoded.append(len(docs))
        return encode(docs, **options)

    monkeypatch.setattr(ranker, "encode_docs", counting)
    part = dev.dev_part(data)
    dev.documents_once(ranker, data, part, SPEC, dev.QUERIES_PER_FORWARD)
    rows = np.concatenate([part.candidates.rows(row)[:6] for row in part.query_rows])
    texts = {tuple(data.doc_ids[row][:16].tolist()) for row in rows.tolist()}
    assert encoded == [len(texts)]
    assert len(texts) < len(rows)
