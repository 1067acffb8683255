"""Every architecture passes the one contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from stillhouse.rankers import RANKERS
from tests.contracts.ranker_contract import RankerContract


class TestCrossEncoder(RankerContract):
    key = "cross_encoder"


class TestCrossEncoderWithOwnHead(RankerContract):
    key = "cross_encoder"
    kind = "roberta"
    options: ClassVar[dict[str, Any]] = {"pooling": "pooler"}


class TestDualEncoder(RankerContract):
    key = "dual_encoder"
    kind = "distilbert"
    options: ClassVar[dict[str, Any]] = {"similarity": "cosine", "score_scale": 20.0, "learn_score_scale": True}


class TestUntiedDualEncoder(RankerContract):
    key = "dual_encoder"
    options: ClassVar[dict[str, Any]] = {"tied": False, "projection_dim": 16, "output_layer_norm": True}
    num_blocks = 6

    def test_frozen_word_embeddings(self, folder: Path) -> None:
        frozen = self.make(folder, freeze_word_embeddings=True)
        still = [name for name, parameter in frozen.named_parameters() if not parameter.requires_grad]
        assert sum("word_embeddings" in name for name in still) == 2


class TestColbert(RankerContract):
    key = "colbert"
    kind = "electra"
    options: ClassVar[dict[str, Any]] = {"projection_dim": 16, "query_marker": "[unused0]", "doc_marker": "[unused1]"}


class TestPrettr(RankerContract):
    key = "prettr"
    kind = "roberta"
    options: ClassVar[dict[str, Any]] = {"num_separate_layers": 2}


class TestTransformerKernel(RankerContract):
    key = "tk"
    num_blocks = 2


class TestCausalLm(RankerContract):
    key = "causal_lm"
    kind = "qwen2"
    options: ClassVar[dict[str, Any]] = {"head": "yes_no"}


class TestRecurrent(RankerContract):
    key = "recurrent"
    kind = "mamba"
    drops = False


def test_every_architecture_is_under_contract() -> None:
    assert {contract.key for contract in RankerContract.__subclasses__()} == set(RANKERS)
