"""Freed memory stays with the process: a second allocation of the same size meets no fresh pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from stillhouse.rankers.processor import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_kept() -> None:
    # 64 MiB four times: 65,536 pages of 4 KiB, fewer where the kernel gives huge ones; kept, next to none.
    faults = {}
    for way in ("keep", "plain"):
        done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
        faults[way] = int(done.stdout)
    assert faults["plain"] > 60
    assert faults["keep"] < faults["plain"] / 4
