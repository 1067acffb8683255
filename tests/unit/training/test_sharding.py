"""How a ranker is spread over workers."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from stillhouse.errors import TrainingError
from stillhouse.training.sharding import choose


@pytest.fixture
def one_of_two():
    """This process as the first of two ranks; what is chosen needs no exchange with the other."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_workers_are_never_left_unconnected(one_of_two):
    with pytest.raises(TrainingError, match="none leaves 2 workers unconnected; set auto, ddp or fsdp"):
        choose("none", nn.Linear(2, 2))
    assert [choose(policy, nn.Linear(2, 2)) for policy in ("auto", "ddp", "fsdp")] == ["ddp", "ddp", "fsdp"]


def test_one_worker_needs_nothing():
    assert {choose(policy, nn.Linear(2, 2)) for policy in ("auto", "none", "ddp", "fsdp")} == {"none"}
