"""Rankers on the toy backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.rankers import RANKERS, Ranker


@pytest.fixture(scope="session")
def cross_encoder(backbone: Path) -> Ranker:
    return RANKERS["cross_encoder"].from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=16)


@pytest.fixture(scope="session")
def dual_encoder(backbone: Path) -> Ranker:
    return RANKERS["dual_encoder"].from_backbone(str(backbone), seed=1, query_max_length=8, doc_max_length=16)
