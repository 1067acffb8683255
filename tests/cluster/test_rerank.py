from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.candidates import Candidates
from stillhouse.collection import Collection
from stillhouse.evaluation import rerank as module
from stillhouse.evaluation.distributed import rerank_distributed
from stillhouse.evaluation.rerank import rerank
from stillhouse.rankers import RANKERS, load_ranker


def test_actors_give_the_run_of_one_process(
    cluster: None,
    backbone: Path,
    toy: Collection,
    toy_candidates: Candidates,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Eight chunks or so; the driver cuts them, the actors score what they are given.
    monkeypatch.setattr(module, "PAIRS_PER_CHUNK", 40)
    RANKERS["cross_encoder"].from_backbone(str(backbone), query_max_length=8, doc_max_length=16).save_pretrained(
        tmp_path
    )
    seen: list[tuple[int, int]] = []
    spread = rerank_distributed(
        tmp_path,
        toy,
        "train",
        toy_candidates,
        12,
        workspace,
        num_actors=2,
        cpus_per_actor=0.5,
        progress=lambda *state: seen.append(state),
    )
    alone = rerank(load_ranker(tmp_path), toy, "train", toy_candidates, 12, workspace)
    assert len(seen) >= 5
    assert seen[-1] == (24, 24)
    assert list(spread) == list(alone)
    for query_id, scores in alone.items():
        # The number of threads may change the order of sums.
        assert spread[query_id] == pytest.approx(scores, abs=1e-6)
