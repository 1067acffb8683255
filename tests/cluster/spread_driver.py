"""Items that do not fit the head's object store, mapped by actors on other nodes: python spread_driver.py COUNT BYTES.

Prints what came back, and how much Ray had to spill.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ray
from ray._private.internal_api import memory_summary

from stillhouse.spread import spread


class Sum:
    """Adds up the bytes of an item."""

    def __call__(self, item: dict[str, Any]) -> dict[str, int]:
        return {"number": item["number"], "sum": sum(item["data"][:: 2**16])}


if __name__ == "__main__":
    ray.init(log_to_driver=False, logging_level="ERROR")
    count, size = map(int, sys.argv[1:])
    items = [{"number": number, "data": bytes([number]) * size} for number in range(count)]
    sums = sorted((row["number"], row["sum"]) for row in spread(items, Sum, {}, actors=1, num_cpus=0.5, num_gpus=0))
    spilled = [line for line in memory_summary(stats_only=True).splitlines() if line.startswith("Spilled")]
    print(json.dumps({"sums": sums, "spilled": spilled}))
