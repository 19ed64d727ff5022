"""Memory of large tensors on the CPU, given back to the system when they are freed.

By default glibc's malloc does so only until the first large block is freed: then blocks up to that size, at most
32 MiB, come from one heap that keeps its gaps. Tensors are aligned to 64 bytes, so that the gap of one is too small for
another of the same size, and a step takes up to a quarter more memory than its tensors do.
"""

import ctypes
import os
import platform

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 2**20  # bytes; below, a call of the system for each tensor would count
SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")  # who sets one has chosen an allocator


def map_large_tensors() -> bool:
    """Tell glibc to map blocks of 1 MiB and more alone, in this process from here on.

    Returns:
        Whether it was told: there is glibc, and the environment sets nothing about the allocator.
    """
    if platform.libc_ver()[0] != "glibc" or any(os.environ.get(name) for name in SETTINGS):
        return False
    return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE))
