"""What the processor of this machine does well, and how its memory is kept."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST, _LARGEST_OF_OLD = 2**30, 2**25
"""Older C libraries refuse more than the second."""

_KERNELS = "64"
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own cache of compiled products, and that of torch above it."""

logger = logging.getLogger(__name__)


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    return bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    )


def has_products() -> bool:
    """Whether oneDNN's products are there to be called by name, as torch.compile does, and not switched off."""
    on = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    return bool(on and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


def bound_kernel_caches() -> None:
    """Have oneDNN keep the products of the last 64 shapes, where it would keep 1,024.

    Batches are of many shapes, so the caches fill for an hour: a process of a tiny teacher grew by 440 MiB from ten
    thousand to a million pairs, and none of it was read again (docs/performance.md). To be called before the first
    product; what the environment says already counts.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, _KERNELS)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what comes next, instead of giving it back page by page.

    A step's activations come and go in tens of megabytes; handing each back to the kernel and having it zeroed again
    took a third of a training step (docs/performance.md). For the whole process, so for commands and workers alone:
    nothing that a program imports calls it. Without glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        logger.debug("no glibc: freed memory goes back to the system as this C library decides")
        return
    if not set_option(_M_MMAP_THRESHOLD, _LARGEST):
        set_option(_M_MMAP_THRESHOLD, _LARGEST_OF_OLD)
    set_option(_M_TRIM_THRESHOLD, _LARGEST)
