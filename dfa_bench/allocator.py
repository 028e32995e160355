"""A setting of glibc's allocator that spares CPU training most of its page faults."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next tensors instead of handing it back after every large one.

    Measured: DNAConv on PubMed, one thread, CPU time of a training step 3.0 s instead of 4.2. No effect elsewhere than
    with glibc. For processes that train and do nothing else.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
