"""Rankers: one architecture a file. `RANKERS` names them, `load_ranker` opens a saved one."""

from stillhouse.rankers.base import Ranker, Truncation
from stillhouse.rankers.batching import Batch
from stillhouse.rankers.opening import RANKERS, load_ranker

__all__ = ["RANKERS", "Batch", "Ranker", "Truncation", "load_ranker"]
